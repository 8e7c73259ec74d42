// Products of small matrices by a warp on tensor cores: bf16 in, f32 sums.
//
// A fragment is what each lane holds of a matrix. Of sums (16 x 8), with g = lane / 4 and t = lane % 4: rows g
// and g + 8, columns 2 t and 2 t + 1. Of the left operand (16 x 16): the same of its two halves of 8 columns,
// so that sums become a left operand without leaving their lanes. Of the right one (16 x 8): column g, rows
// 2 t, 2 t + 1, 2 t + 8, 2 t + 9.
#pragma once
#include "rows.cuh"

struct Left {
  u32 v[4];
};
// Two right operands of neighbouring columns.
struct Rights {
  u32 v[4];
};
struct Sums {
  float v[4];
};

#ifndef EMULATED
// sums += left * right; `right` is 0 or 1.
DEVICE void multiply(Sums& sums, const Left& left, const Rights& rights, int right) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(sums.v[0]), "+f"(sums.v[1]), "+f"(sums.v[2]), "+f"(sums.v[3])
      : "r"(left.v[0]), "r"(left.v[1]), "r"(left.v[2]), "r"(left.v[3]), "r"(rights.v[2 * right]),
        "r"(rights.v[2 * right + 1]));
}
// Four matrices of 8 x 8 from shared memory: lane 8 m + r names the 16 bytes of row r of matrix m.
DEVICE void load_matrices(u32 (&to)[4], const bf16* row) {
  u32 at = static_cast<u32>(__cvta_generic_to_shared(row));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"(at)
               : "memory");
}
DEVICE void load_matrices_transposed(u32 (&to)[4], const bf16* row) {
  u32 at = static_cast<u32>(__cvta_generic_to_shared(row));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"(at)
               : "memory");
}
// 2^v to 2 units in the last place, in one instruction.
DEVICE float power_of_two(float v) {
  float power;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(power) : "f"(v));
  return power;
}
DEVICE u32 two_bf16(float low, float high) {
  u32 both;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(high), "f"(low));
  return both;
}
#else
DEVICE void multiply(Sums& sums, const Left& left, const Rights& rights, int right) {
  emu::multiply(sums.v, left.v, rights.v + 2 * right);
}
DEVICE void load_matrices(u32 (&to)[4], const bf16* row) { emu::load_matrices(to, row, false); }
DEVICE void load_matrices_transposed(u32 (&to)[4], const bf16* row) { emu::load_matrices(to, row, true); }
DEVICE float power_of_two(float v) { return exp2f(v); }
DEVICE u32 two_bf16(float low, float high) {
  return from_float<bf16>(low).bits | static_cast<u32>(from_float<bf16>(high).bits) << 16;
}
#endif

// Rows of a tile in shared memory lie 72 values apart: 9 times 16 bytes, so that the 8 rows of a matrix meet
// no bank twice.
#define TILE_ROW 72

// The left operand whose first row and column are given.
DEVICE Left load_left(const bf16* tile, int row, int column) {
  int lane = lane_index();
  Left left;
  load_matrices(left.v, tile + (row + lane % 16) * TILE_ROW + column + lane / 16 * 8);
  return left;
}
// The right operands made of 16 rows of a tile as columns: the tile transposed.
DEVICE Rights load_rows_as_columns(const bf16* tile, int row, int column) {
  int lane = lane_index();
  Rights rights;
  load_matrices(rights.v, tile + (row + lane % 8 + lane / 16 * 8) * TILE_ROW + column + lane / 8 % 2 * 8);
  return rights;
}
// The right operands made of 16 columns of a tile.
DEVICE Rights load_columns(const bf16* tile, int row, int column) {
  int lane = lane_index();
  Rights rights;
  load_matrices_transposed(rights.v, tile + (row + lane % 16) * TILE_ROW + column + lane / 16 * 8);
  return rights;
}
// Sums of 16 columns, rounded, as a left operand.
DEVICE Left as_left(const Sums& first, const Sums& second) {
  return {{two_bf16(first.v[0], first.v[1]), two_bf16(first.v[2], first.v[3]), two_bf16(second.v[0], second.v[1]),
           two_bf16(second.v[2], second.v[3])}};
}
