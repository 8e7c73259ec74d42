//! Every model: each trainable variable learns, generated images leave no trace in the running
//! statistics, and the number of threads changes no bit.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor};
use fgvr_decoder::{ConvDecoder, DecoderConfig, reconstruction_loss};
use fgvr_encoder::{
    EfficientNet, EfficientNetConfig, Pooling, ResNet, ResNetConfig, Stem, Vit, VitConfig,
};
use fgvr_nn::ParameterGradients;
use fgvr_nn::{Decoder, Encoder, NormMode, Parameters};
use fgvr_testkit::{normal, uniform};

const DEPTHS: [usize; 6] = [10, 14, 18, 34, 50, 101];

type Bits = BTreeMap<String, Vec<u32>>;

/// A model, named, with one training pass: it returns the gradients by name.
struct Model {
    name: String,
    parameters: Parameters,
    pass: Box<dyn Fn(NormMode) -> BTreeMap<String, Tensor> + Send + Sync>,
    /// Output in [`NormMode::Eval`].
    infer: Box<dyn Fn(NormMode) -> Tensor + Send + Sync>,
}

fn by_name(parameters: &Parameters, gradients: &ParameterGradients) -> BTreeMap<String, Tensor> {
    let vars = parameters.trainable().into_iter();
    vars.filter_map(|(name, var)| Some((name, gradients.get(&var)?.clone())))
        .collect()
}

fn resnet(depth: usize, stem: Stem) -> Model {
    let config = ResNetConfig {
        depth,
        width: 4,
        stem,
        ..ResNetConfig::default()
    };
    // A last map of 3x2 places.
    let images = normal(4, (3, 3, 3 * config.stride(), 2 * config.stride()));
    let name = format!("resnet{depth} {stem:?}");
    encoder(name, images, |parameters| {
        ResNet::new(&config, parameters.builder(DType::F32, &Device::Cpu)).unwrap()
    })
}

/// Narrow and short, on a last map of 3x2 places.
fn efficientnet(config: EfficientNetConfig) -> Model {
    let config = EfficientNetConfig {
        width_multiplier: 0.2,
        depth_multiplier: 0.5,
        ..config
    };
    let name = format!("efficientnet {:?}", config.padding);
    encoder(name, normal(4, (3, 3, 65, 48)), |parameters| {
        EfficientNet::new(&config, parameters.builder(DType::F32, &Device::Cpu)).unwrap()
    })
}

/// At the size it was built for or, wider than high, at another.
fn vit(config: &VitConfig, name: &str, [h, w]: [usize; 2]) -> Model {
    let images = normal(4, (3, 3, h, w));
    let name = format!("{name} {h} x {w}");
    encoder(name, images, |parameters| {
        Vit::new(config, parameters.builder(DType::F32, &Device::Cpu)).unwrap()
    })
}

fn encoder<E: Encoder + Send + Sync + 'static>(
    name: String,
    images: Tensor,
    build: impl Fn(&Parameters) -> E,
) -> Model {
    let parameters = Parameters::new(3);
    let (model, twin) = (build(&parameters), build(&parameters)); // the same variables
    let batch = images.clone();
    let handle = parameters.clone();
    Model {
        name,
        parameters,
        pass: Box::new(move |norm| {
            let (features, tape) = model.forward_train(&images, norm).unwrap();
            let a = normal(5, features.map.shape());
            let b = normal(6, features.pooled.shape());
            let loss = (&features.map * a).unwrap().sum_all().unwrap();
            let loss = (loss + (&features.pooled * b).unwrap().sum_all().unwrap()).unwrap();
            let mut gradients = ParameterGradients::default();
            tape.backward(&loss.backward().unwrap(), &mut gradients)
                .unwrap();
            by_name(&handle, &gradients)
        }),
        infer: Box::new(move |norm| twin.features(&batch, norm).unwrap().map),
    }
}

fn decoder(size: usize, stride: usize) -> Model {
    let config = DecoderConfig::for_size(12, size, stride, 8);
    let parameters = Parameters::new(3);
    let build = || ConvDecoder::new(&config, parameters.builder(DType::F32, &Device::Cpu)).unwrap();
    let (model, twin) = (build(), build());
    let pooled = uniform(4, (3, 12), 0., 2.);
    let batch = pooled.clone();
    let handle = parameters.clone();
    Model {
        name: format!("decoder {size} px, stride {stride}"),
        parameters,
        pass: Box::new(move |norm| {
            let (images, tape) = model.forward_train(&pooled, norm).unwrap();
            let target = normal(5, images.shape());
            let loss = reconstruction_loss(&images, &target).unwrap();
            let mut gradients = ParameterGradients::default();
            let at_pooled = tape
                .backward(&loss.backward().unwrap(), &mut gradients)
                .unwrap();
            let mut gradients = by_name(&handle, &gradients);
            gradients.insert("pooled".into(), at_pooled.unwrap());
            gradients
        }),
        infer: Box::new(move |norm| twin.generate(&batch, norm).unwrap()),
    }
}

fn models() -> Vec<Model> {
    let encoders = DEPTHS.into_iter().flat_map(|depth| {
        let stems = [Stem::Small, Stem::ImageNet];
        stems.map(|stem| resnet(depth, stem))
    });
    let small = VitConfig {
        patch_size: 8,
        image_size: 24,
        width: 24,
        depth: 2,
        ..VitConfig::tiny_patch16()
    };
    let registers = VitConfig {
        patch_size: 8,
        image_size: 24,
        ..small.clone().dinov2().with_registers(2)
    };
    let both = VitConfig {
        pooling: Pooling::Both,
        ..registers.clone()
    };
    let transformers = [
        vit(&small, "vit", [24, 24]),
        vit(&registers, "vit with registers and layer scale", [24, 24]),
        vit(&registers, "vit with registers and layer scale", [16, 40]),
        vit(&both, "vit that pools class and patches", [16, 24]),
    ];
    let lite = EfficientNetConfig::default();
    let efficientnets = [lite.clone(), lite.symmetric()].map(efficientnet);
    let decoders = [decoder(32, 16), decoder(64, 32)];
    let encoders = encoders.chain(efficientnets).chain(transformers);
    encoders.chain(decoders).collect()
}

fn bits<'a>(tensors: impl IntoIterator<Item = (&'a String, &'a Tensor)>) -> Bits {
    let values = |tensor: &Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    tensors
        .into_iter()
        .map(|(name, tensor)| {
            let values = values(tensor).into_iter().map(f32::to_bits).collect();
            (name.clone(), values)
        })
        .collect()
}

fn buffer_bits(parameters: &Parameters) -> Bits {
    let buffers = parameters.buffers();
    bits(buffers.iter().map(|(name, var)| (name, var.as_tensor())))
}

#[test]
fn every_trainable_variable_gets_a_finite_gradient_that_is_not_zero() {
    for model in models() {
        let gradients = (model.pass)(NormMode::Train);
        for name in model.parameters.trainable().keys() {
            let Some(gradient) = gradients.get(name) else {
                panic!("{}: {name} got no gradient", model.name);
            };
            let values = gradient.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            assert!(
                values.iter().all(|g| g.is_finite()),
                "{}: {name}",
                model.name
            );
            assert!(
                values.iter().any(|g| *g != 0.),
                "{}: {name} is all zeros",
                model.name
            );
        }
    }
}

#[test]
fn passes_without_update_leave_running_statistics_unchanged_bit_for_bit() {
    for model in models() {
        (model.pass)(NormMode::Train);
        let before = buffer_bits(&model.parameters);
        (model.pass)(NormMode::NoUpdate);
        (model.infer)(NormMode::NoUpdate);
        (model.infer)(NormMode::Eval);
        let split = NormMode::Split {
            groups: 1,
            update: false,
        };
        (model.infer)(split);
        assert!(before == buffer_bits(&model.parameters), "{}", model.name);
        (model.pass)(NormMode::Train);
        let after = buffer_bits(&model.parameters);
        let moved = after
            .iter()
            .filter(|(name, values)| before[*name] != **values)
            .count();
        assert_eq!(
            moved,
            before.len(),
            "{}: a training pass updates every one",
            model.name
        );
    }
}

#[test]
fn one_thread_and_two_give_the_same_bits() {
    let run = |threads: usize| -> Vec<(String, Bits)> {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        pool.install(|| {
            let run = |model: Model| {
                let mut all = (model.pass)(NormMode::Train);
                all.insert("eval".into(), (model.infer)(NormMode::Eval));
                let mut all = bits(&all);
                all.extend(buffer_bits(&model.parameters));
                (model.name, all)
            };
            models().into_iter().map(run).collect()
        })
    };
    for ((name, one), (_, two)) in run(1).into_iter().zip(run(2)) {
        for (tensor, values) in &one {
            assert!(*values == two[tensor], "{name}: {tensor}");
        }
    }
}

/// With the last norm of every block at zero, a block is relu(shortcut), so the branch's weights
/// have no say in the output yet.
#[test]
fn zero_init_makes_every_block_start_as_its_shortcut() {
    let config = ResNetConfig {
        depth: 18,
        width: 4,
        stem: Stem::Small,
        zero_init_residual: true,
        ..ResNetConfig::default()
    };
    let parameters = Parameters::new(1);
    let model = ResNet::new(&config, parameters.builder(DType::F32, &Device::Cpu)).unwrap();
    let images = normal(2, (2, 3, 32, 32));
    let map = || model.features(&images, NormMode::Eval).unwrap().map;
    let before = map();
    let vars = parameters.all();
    for i in 0..2 {
        let last = vars[&format!("layer3.{i}.bn2.weight")]
            .to_vec1::<f32>()
            .unwrap();
        assert!(last.iter().all(|w| *w == 0.));
        let conv = &vars[&format!("layer3.{i}.conv2.weight")];
        conv.set(&conv.affine(3., 1.).unwrap()).unwrap();
    }
    let after = map();
    assert!(before.sum_all().unwrap().to_scalar::<f32>().unwrap() > 0.);
    assert_eq!(
        before.flatten_all().unwrap().to_vec1::<f32>().unwrap(),
        after.flatten_all().unwrap().to_vec1::<f32>().unwrap()
    );
}

#[test]
fn images_of_a_wrong_shape_are_an_error_that_shows_it() {
    let config = ResNetConfig {
        depth: 10,
        width: 4,
        ..ResNetConfig::default()
    };
    let vb = Parameters::new(0).builder(DType::F32, &Device::Cpu);
    let model = ResNet::new(&config, vb.clone()).unwrap();
    for shape in [&[2, 1, 32, 32][..], &[3, 32, 32], &[0, 3, 32, 32]] {
        let images = Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap();
        let error = model
            .features(&images, NormMode::Eval)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains(&format!("images are {shape:?}, expected (N, 3, H, W)")),
            "{error}"
        );
    }
    let unknown = ResNetConfig {
        depth: 12,
        ..config
    };
    let error = ResNet::new(&unknown, vb).err().unwrap().to_string();
    assert!(error.contains("depth is 12, expected one of"), "{error}");
}
