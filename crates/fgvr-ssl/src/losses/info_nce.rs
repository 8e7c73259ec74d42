//! InfoNCE against a queue of past keys.

use candle_core::{DType, Result, Tensor, bail};

/// Added to the logit of a key that is not a negative. exp(x - 1e9) is exactly zero in f32 and f64,
/// while a true infinity would give NaN where it meets another one.
const EXCLUDED: f64 = -1e9;

/// Past keys, and the images they came from.
#[derive(Clone, Copy, Debug)]
pub struct Negatives<'a> {
    /// (K, D), normalised. Rows that hold no key yet are not passed: see [`crate::KeyQueue`].
    pub keys: &'a Tensor,
    /// The image of each key; keys of the query's own image are no negatives.
    pub images: &'a [u32],
}

/// What [`info_nce`] found.
#[derive(Clone, Debug)]
pub struct InfoNce {
    /// Scalar, mean over the queries, on candle's autograd.
    pub loss: Tensor,
    /// Fraction of queries nearer to their own key than to any negative. A tie counts as a miss,
    /// so that a collapsed encoder scores 0.
    pub top1: f64,
    /// Mean similarity of a query and its key.
    pub positive: f64,
    /// Mean similarity of a query and a negative; `None` where there is none.
    pub negative: Option<f64>,
}

impl InfoNce {
    /// The sum of two losses, and the means of what they found.
    pub(crate) fn plus(self, other: Self) -> Result<Self> {
        let mean = |a: f64, b: f64| (a + b) / 2.;
        Ok(Self {
            loss: (self.loss + other.loss)?,
            top1: mean(self.top1, other.top1),
            positive: mean(self.positive, other.positive),
            negative: (self.negative.zip(other.negative)).map(|(a, b)| mean(a, b)),
        })
    }
}

/// L = mean over i of -log( exp(q_i·k_i/T) / (exp(q_i·k_i/T) + sum over negatives n of exp(q_i·n/T)) ),
/// Eq. 1 of MoCo (arXiv:1911.05722).
///
/// `queries` and `keys` are (N, D), normalised; `images` names the image of each query. Keys and
/// negatives are constants. Without any negative the loss of a query is zero.
///
/// # Differs
/// MoCo lets older keys of the same image stand as negatives, and fills the queue with random vectors
/// at the start. With a few thousand images the first pushes an image away from itself, so such keys
/// are left out here, and slots not yet filled are not used.
///
/// # Errors
/// Shapes that do not agree, or a temperature that is not positive.
pub fn info_nce(
    queries: &Tensor,
    keys: &Tensor,
    images: &[u32],
    negatives: Option<Negatives<'_>>,
    temperature: f64,
) -> Result<InfoNce> {
    let (n, d) = queries.dims2()?;
    if keys.dims() != [n, d] {
        bail!("info_nce: keys are {:?}, expected [{n}, {d}]", keys.dims());
    }
    if images.len() != n {
        bail!("info_nce: {} image indices, expected {n}", images.len());
    }
    if !(temperature > 0. && temperature.is_finite()) {
        bail!("info_nce: temperature is {temperature}, expected a positive number");
    }
    let positive = (queries * keys.detach())?.sum_keepdim(1)?; // (N, D) -> (N, 1)
    let similarity = match negatives {
        None => None,
        Some(Negatives { keys, images: of }) => {
            let (k, width) = keys.dims2()?;
            if width != d || of.len() != k {
                bail!(
                    "info_nce: negatives are {:?} with {} image indices, expected [K, {d}] with K",
                    keys.dims(),
                    of.len()
                );
            }
            let similarity = queries.matmul(&keys.detach().t()?)?; // (N, D) x (D, K) -> (N, K)
            Some((similarity, excluded(images, of, queries)?))
        }
    };

    let mut logits = (&positive / temperature)?;
    if let Some((similarity, excluded)) = &similarity {
        let negative = ((similarity / temperature)? + excluded)?;
        logits = Tensor::cat(&[&logits, &negative], 1)?; // (N, 1 + K)
    }
    let highest = logits.max_keepdim(1)?.detach();
    let log_sum = (logits
        .broadcast_sub(&highest)?
        .exp()?
        .sum_keepdim(1)?
        .log()?
        + highest)?;
    let loss = (log_sum - (&positive / temperature)?)?.mean_all()?;

    let (top1, negative) = match &similarity {
        None => (1., None),
        Some((similarity, excluded)) => summary(&positive, similarity, excluded)?,
    };
    Ok(InfoNce {
        loss,
        top1,
        positive: scalar(&positive.mean_all()?)?,
        negative,
    })
}

/// (N, K): 0 for a negative, [`EXCLUDED`] for a key of the query's own image.
fn excluded(images: &[u32], of: &[u32], like: &Tensor) -> Result<Tensor> {
    let mask: Vec<f32> = images
        .iter()
        .flat_map(|image| {
            of.iter()
                .map(move |other| if other == image { EXCLUDED as f32 } else { 0. })
        })
        .collect();
    Tensor::from_vec(mask, (images.len(), of.len()), like.device())?.to_dtype(like.dtype())
}

/// Top-1 and the mean similarity of the negatives.
fn summary(
    positive: &Tensor,
    similarity: &Tensor,
    excluded: &Tensor,
) -> Result<(f64, Option<f64>)> {
    let hardest = (similarity + excluded)?.max_keepdim(1)?;
    let top1 = positive.gt(&hardest)?.to_dtype(DType::F64)?.mean_all()?;
    let kept = excluded.eq(0.)?.to_dtype(similarity.dtype())?;
    let count = scalar(&kept.sum_all()?)?;
    let negative = match count > 0. {
        true => Some(scalar(&(similarity * kept)?.sum_all()?)? / count),
        false => None,
    };
    Ok((scalar(&top1)?, negative))
}

pub(crate) fn scalar(tensor: &Tensor) -> Result<f64> {
    tensor.to_dtype(DType::F64)?.to_scalar()
}
