"""The losses of distillation with their gradients.

python tests/golden/distil.py tests/golden/distil.safetensors
Made with torch 2.15.0, safetensors 0.8.0 (CPU, f64). Written from the equations of docs/methods.md.
"""

import sys

import torch
import torch.nn.functional as F
from safetensors.torch import save_file

torch.manual_seed(0)
N, C, C_T, T, T_T = 7, 5, 4, 0.3, 0.2
student = torch.randn(N, C, dtype=torch.float64, requires_grad=True)
projector = torch.randn(C_T, C, dtype=torch.float64, requires_grad=True)
taught = F.normalize(torch.randn(N, C_T, dtype=torch.float64), dim=1)
# Rows 1 and 5 show one image.
images = torch.tensor([3, 8, 2, 0, 5, 8, 9])

feature = (1 - F.cosine_similarity(student @ projector.T, taught)).mean()
of_feature = torch.autograd.grad(feature, [student, projector])

unit = F.normalize(student, dim=1)
same = images[:, None] == images[None, :]
of_student = F.log_softmax((unit @ unit.T / T).masked_fill(same, -torch.inf), dim=1)
of_teacher = F.softmax((taught @ taught.T / T_T).masked_fill(same, -torch.inf), dim=1)
terms = torch.where(same, 0.0, of_teacher * (of_teacher.clamp_min(1e-300).log() - of_student.masked_fill(same, 0)))
similarity = terms.sum(dim=1).mean()
of_similarity = torch.autograd.grad(similarity, student)[0]

save_file(
    {
        "student": student.detach(),
        "projector": projector.detach(),
        "taught": taught,
        "images": images,
        "feature": feature.detach(),
        "feature_student": of_feature[0],
        "feature_projector": of_feature[1],
        "similarity": similarity.detach(),
        "similarity_student": of_similarity,
    },
    sys.argv[1],
)
