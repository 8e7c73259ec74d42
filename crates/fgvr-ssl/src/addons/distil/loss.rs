//! What of a teacher's features is compared, and how.

use candle_core::{Result, Tensor, bail};
use candle_nn::ops::log_softmax;

use crate::l2_normalise;
use crate::losses::info_nce::scalar;

/// Added to a logit that takes no part: exp(x - 1e9) is exactly zero.
const EXCLUDED: f64 = -1e9;

/// The mean over the rows of 1 - cos(`projected`, `taught`), and the mean cosine; both are (N, C), `taught` of rows of length 1.
///
/// # Errors
/// Shapes that differ.
pub fn feature_loss(projected: &Tensor, taught: &Tensor) -> Result<(Tensor, f64)> {
    if projected.dims() != taught.dims() {
        bail!(
            "feature loss: {:?} of the student, {:?} of the teacher",
            projected.dims(),
            taught.dims()
        );
    }
    let cosine = (l2_normalise(projected)? * taught.detach())?
        .sum(1)?
        .mean_all()?;
    let mean = scalar(&cosine)?;
    Ok(((1. - cosine)?, mean))
}

/// The mean over i of KL( softmax_j(t_i·t_j/T_t) || softmax_j(cos(h_i, h_j)/T) ) over rows j of other images, `images` naming that of
/// each row: `student` h is (N, C), `taught` t (N, C_t) of rows of length 1, and `temperatures` are [T, T_t].
///
/// # Errors
/// Shapes that do not agree, and a batch without two images.
pub fn similarity_loss(
    student: &Tensor,
    taught: &Tensor,
    images: &[u32],
    [temperature, teacher_temperature]: [f64; 2],
) -> Result<Tensor> {
    let n = images.len();
    if student.dims2()?.0 != n || taught.dims2()?.0 != n {
        bail!(
            "similarity loss: {:?} of the student and {:?} of the teacher for {n} images",
            student.dims(),
            taught.dims()
        );
    }
    let alone = |i: &u32| images.iter().all(|j| i == j);
    if images.iter().any(alone) {
        bail!("similarity loss: the batch shows one image alone");
    }
    // (N, N): 1 where two rows show one image
    let same = images
        .iter()
        .flat_map(|i| images.iter().map(move |j| f32::from(u8::from(i == j))));
    let same = Tensor::from_iter(same, student.device())?
        .reshape((n, n))?
        .to_dtype(student.dtype())?;
    let left_out = (&same * EXCLUDED)?;
    let logits = |rows: &Tensor, temperature: f64| -> Result<Tensor> {
        log_softmax(&((rows.matmul(&rows.t()?)? / temperature)? + &left_out)?, 1)
    };
    let student = logits(&l2_normalise(student)?, temperature)?;
    let teacher = logits(&taught.detach(), teacher_temperature)?;
    // Terms of probability 0 are 0, whatever the student's logit.
    let others = (1. - &same)?;
    let difference = ((&teacher - student)? * &others)?;
    (teacher.exp()? * difference)?.sum(1)?.mean_all()
}
