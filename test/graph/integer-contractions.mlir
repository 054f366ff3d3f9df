// DequantizeLinear -> matrix product -> QuantizeLinear works in integers.
// RUN: quadrille-opt --qd-print-kernels=integer-contractions=true %s -o /dev/null | FileCheck %s

#mk = affine_map<(m, k) -> (m, k)>
#mnk_lhs = affine_map<(m, n, k) -> (m, k)>
#mnk_rhs = affine_map<(m, n, k) -> (k, n)>
#mnk_result = affine_map<(m, n, k) -> (m, n)>

// 0.5 (x - 3) times 0.25 w, quantised to 2 (y + 7): the factor is 0.5 * 0.25 / 2 = 0.0625 = 0x3d800000.
// CHECK-LABEL: graph "both"
// CHECK-NOT: f32[
// CHECK: contract "matmul" {{.*}} reads(v0[d0, d2], v1[d2, d1]) writes(v6[d0, d1]: i32[4,8] sum from 0) roles(lhs 0 rhs 1 m [d0] n [d1] k [d2] lhs_zero 3) numeric(i8 i32 i32)
// CHECK-NEXT: %0:i8 = input 0
// CHECK-NEXT: %1:i32 = convert %0
// CHECK-NEXT: %2:i32 = constant 0x3
// CHECK-NEXT: %3:i32 = subtract %1, %2
// CHECK-NEXT: %4:i8 = input 1
// CHECK-NEXT: %5:i32 = convert %4
// CHECK-NEXT: %6:i32 = multiply %3, %5
// CHECK: map "requantize" {{.*}} reads(v6[d0, d1]) writes(v5[d0, d1]: i8[4,8] "result0")
// CHECK: constant 0x3d800000
// CHECK: round_even
// CHECK-NEXT: %5:f32 = constant 0x40e00000
// CHECK: convert_saturating
// CHECK-NOT: contract
func.func @both(%x: tensor<4x16xi8>, %w: tensor<16x8xi8>) -> tensor<4x8xi8> {
  %ex = tensor.empty() : tensor<4x16xf32>
  %ew = tensor.empty() : tensor<16x8xf32>
  %ey = tensor.empty() : tensor<4x8xi8>
  %zero = arith.constant dense<0.0> : tensor<4x8xf32>
  %xd = linalg.generic {indexing_maps = [#mk, #mk], iterator_types = ["parallel", "parallel"]}
      ins(%x : tensor<4x16xi8>) outs(%ex : tensor<4x16xf32>) {
  ^bb0(%a: i8, %o: f32):
    %three = arith.constant 3 : i32
    %half = arith.constant 0.5 : f32
    %i = arith.extsi %a : i8 to i32
    %d = arith.subi %i, %three : i32
    %f = arith.sitofp %d : i32 to f32
    %r = arith.mulf %f, %half : f32
    linalg.yield %r : f32
  } -> tensor<4x16xf32>
  %wd = linalg.generic {indexing_maps = [#mk, #mk], iterator_types = ["parallel", "parallel"]}
      ins(%w : tensor<16x8xi8>) outs(%ew : tensor<16x8xf32>) {
  ^bb0(%a: i8, %o: f32):
    %quarter = arith.constant 0.25 : f32
    %i = arith.extsi %a : i8 to i32
    %f = arith.sitofp %i : i32 to f32
    %r = arith.mulf %f, %quarter : f32
    linalg.yield %r : f32
  } -> tensor<16x8xf32>
  %p = linalg.matmul ins(%xd, %wd : tensor<4x16xf32>, tensor<16x8xf32>) outs(%zero : tensor<4x8xf32>) -> tensor<4x8xf32>
  %y = linalg.generic {indexing_maps = [#mk, #mk], iterator_types = ["parallel", "parallel"]}
      ins(%p : tensor<4x8xf32>) outs(%ey : tensor<4x8xi8>) {
  ^bb0(%a: f32, %o: i8):
    %two = arith.constant 2.0 : f32
    %seven = arith.constant 7.0 : f32
    %q = arith.divf %a, %two : f32
    %n = math.roundeven %q : f32
    %s = arith.addf %n, %seven : f32
    %r = arith.fptosi %s : f32 to i8
    linalg.yield %r : i8
  } -> tensor<4x8xi8>
  return %y : tensor<4x8xi8>
}
