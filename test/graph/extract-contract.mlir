// Contractions: matrix products, convolutions, integer contractions with zero points.
// RUN: quadrille-opt --qd-print-kernels %s -o /dev/null | FileCheck %s

// CHECK-LABEL: graph "matmul"
// CHECK-NEXT:  input v0: f32[4,16] "A"
// CHECK-NEXT:  input v1: f32[16,8] "B"
// CHECK-NEXT:  contract "matmul" loops(d0:4, d1:8, d2:16 reduction) reads(v0[d0, d2], v1[d2, d1]) writes(v2[d0, d1]: f32[4,8] "C" sum from 0) roles(lhs 0 rhs 1 m [d0] n [d1] k [d2]) numeric(f32 f32 f32) flops 1024 bytes 896 nodes(MatMul "gemm")
// CHECK-NEXT:  %0:f32 = input 0
// CHECK-NEXT:  %1:f32 = input 1
// CHECK-NEXT:  %2:f32 = multiply %0, %1
// CHECK-NEXT:  return %2
// CHECK-NEXT:  output v2 "C"
func.func @matmul(%a: tensor<4x16xf32> {qd.name = "A"}, %b: tensor<16x8xf32> {qd.name = "B"})
    -> (tensor<4x8xf32> {qd.name = "C"}) {
  %zero = arith.constant 0.0 : f32
  %empty = tensor.empty() : tensor<4x8xf32>
  %init = linalg.fill ins(%zero : f32) outs(%empty : tensor<4x8xf32>) -> tensor<4x8xf32>
  %c = linalg.matmul ins(%a, %b : tensor<4x16xf32>, tensor<16x8xf32>) outs(%init : tensor<4x8xf32>) -> tensor<4x8xf32>
      loc("gemm"("MatMul"))
  return %c : tensor<4x8xf32>
}

// The second operand is read transposed, products of f16 are summed in f32, the result starts from a bias.
// CHECK-LABEL: graph "batched"
// CHECK-NEXT:  input v0: f16[2,4,16] "argument0"
// CHECK-NEXT:  input v1: f16[2,8,16] "argument1"
// CHECK-NEXT:  input v2: f32[8] "argument2"
// CHECK-NEXT:  contract "batch_matmul_transpose_b" loops(d0:2, d1:4, d2:8, d3:16 reduction) reads(v0[d0, d1, d3], v1[d0, d2, d3]) writes(v3[d0, d1, d2]: f32[2,4,8] "result0" sum from v2[d2]) roles(lhs 0 rhs 1 batch [d0] m [d1] n [d2] k [d3]) numeric(f16 f32 f32) flops 2048 bytes 1056 nodes(Add "bias", MatMul "product")
// CHECK-NEXT:  %0:f16 = input 0
// CHECK-NEXT:  %1:f16 = input 1
// CHECK-NEXT:  %2:f32 = convert %0
// CHECK-NEXT:  %3:f32 = convert %1
// CHECK-NEXT:  %4:f32 = multiply %2, %3
// CHECK-NEXT:  return %4
// CHECK-NEXT:  output v3 "result0"
func.func @batched(%a: tensor<2x4x16xf16>, %b: tensor<2x8x16xf16>, %bias: tensor<8xf32>) -> tensor<2x4x8xf32> {
  %empty = tensor.empty() : tensor<2x4x8xf32>
  %init = linalg.broadcast ins(%bias : tensor<8xf32>) outs(%empty : tensor<2x4x8xf32>) dimensions = [0, 1]
      loc("bias"("Add"))
  %c = linalg.batch_matmul_transpose_b ins(%a, %b : tensor<2x4x16xf16>, tensor<2x8x16xf16>)
      outs(%init : tensor<2x4x8xf32>) -> tensor<2x4x8xf32> loc("product"("MatMul"))
  return %c : tensor<2x4x8xf32>
}

// CHECK-LABEL: graph "conv"
// CHECK-NEXT:  input v0: f32[1,3,8,8] "argument0"
// CHECK-NEXT:  input v1: f32[16,3,3,3] "argument1"
// CHECK-NEXT:  contract "conv_2d_nchw_fchw" loops(d0:1, d1:16, d2:4, d3:3, d4:3 reduction, d5:3 reduction, d6:3 reduction) reads(v0[d0, d4, 2*d2+d5-1, 2*d3+2*d6-1] pad 0, v1[d1, d4, d5, d6]) writes(v2[d0, d1, d2, d3]: f32[1,16,4,3] "result0" sum from 0) roles(lhs 0 rhs 1 m [d0] n [d1] k [d4] window [d2, d5 stride 2 dilation 1 pad 1 0] window [d3, d6 stride 2 dilation 2 pad 1 0]) numeric(f32 f32 f32) flops 10368 bytes 3264
// CHECK-NEXT:  %0:f32 = input 0
// CHECK-NEXT:  %1:f32 = input 1
// CHECK-NEXT:  %2:f32 = multiply %0, %1
// CHECK-NEXT:  return %2
// CHECK-NEXT:  output v2 "result0"
func.func @conv(%x: tensor<1x3x8x8xf32>, %w: tensor<16x3x3x3xf32>) -> tensor<1x16x4x3xf32> {
  %zero = arith.constant 0.0 : f32
  %empty = tensor.empty() : tensor<1x16x4x3xf32>
  %init = linalg.fill ins(%zero : f32) outs(%empty : tensor<1x16x4x3xf32>) -> tensor<1x16x4x3xf32>
  %p = tensor.pad %x low[0, 0, 1, 1] high[0, 0, 1, 0] {
  ^bb0(%i: index, %j: index, %k: index, %l: index):
    tensor.yield %zero : f32
  } : tensor<1x3x8x8xf32> to tensor<1x3x10x9xf32>
  %y = linalg.conv_2d_nchw_fchw {dilations = dense<[1, 2]> : tensor<2xi64>, strides = dense<2> : tensor<2xi64>}
      ins(%p, %w : tensor<1x3x10x9xf32>, tensor<16x3x3x3xf32>) outs(%init : tensor<1x16x4x3xf32>) -> tensor<1x16x4x3xf32>
  return %y : tensor<1x16x4x3xf32>
}
// CHECK-LABEL: graph "grouped"
// CHECK-NEXT:  input v0: f32[1,2,3,8,8] "argument0"
// CHECK-NEXT:  input v1: f32[2,5,3,3,3] "argument1"
// CHECK-NEXT:  input v2: f32[1,2,5,6,6] "argument2"
// CHECK-NEXT:  contract "conv_2d_ngchw_gfchw" loops(d0:1, d1:2, d2:5, d3:6, d4:6, d5:3 reduction, d6:3 reduction, d7:3 reduction) reads(v0[d0, d1, d5, d3+d6, d4+d7], v1[d1, d2, d5, d6, d7]) writes(v3[d0, d1, d2, d3, d4]: f32[1,2,5,6,6] "result0" sum from v2[d0, d1, d2, d3, d4]) roles(lhs 0 rhs 1 batch [d1] m [d0] n [d2] k [d5] window [d3, d6 stride 1 dilation 1 pad 0 0] window [d4, d7 stride 1 dilation 1 pad 0 0]) numeric(f32 f32 f32) flops 19440 bytes 5496
// CHECK-NEXT:  %0:f32 = input 0
// CHECK-NEXT:  %1:f32 = input 1
// CHECK-NEXT:  %2:f32 = multiply %0, %1
// CHECK-NEXT:  return %2
// CHECK-NEXT:  output v3 "result0"
func.func @grouped(%x: tensor<1x2x3x8x8xf32>, %w: tensor<2x5x3x3x3xf32>, %init: tensor<1x2x5x6x6xf32>) -> tensor<1x2x5x6x6xf32> {
  %y = linalg.conv_2d_ngchw_gfchw ins(%x, %w : tensor<1x2x3x8x8xf32>, tensor<2x5x3x3x3xf32>) outs(%init : tensor<1x2x5x6x6xf32>) -> tensor<1x2x5x6x6xf32>
  return %y : tensor<1x2x5x6x6xf32>
}
// CHECK-LABEL: graph "depthwise"
// CHECK-NEXT:  input v0: f32[1,4,8,8] "argument0"
// CHECK-NEXT:  input v1: f32[4,3,3] "argument1"
// CHECK-NEXT:  input v2: f32[1,4,6,6] "argument2"
// CHECK-NEXT:  contract "depthwise_conv_2d_nchw_chw" loops(d0:1, d1:6, d2:6, d3:4, d4:3 reduction, d5:3 reduction) reads(v0[d0, d3, d1+d4, d2+d5], v1[d3, d4, d5]) writes(v3[d0, d3, d1, d2]: f32[1,4,6,6] "result0" sum from v2[d0, d3, d1, d2]) roles(lhs 0 rhs 1 batch [d3] m [d0] window [d1, d4 stride 1 dilation 1 pad 0 0] window [d2, d5 stride 1 dilation 1 pad 0 0]) numeric(f32 f32 f32) flops 2592 bytes 2320
// CHECK-NEXT:  %0:f32 = input 0
// CHECK-NEXT:  %1:f32 = input 1
// CHECK-NEXT:  %2:f32 = multiply %0, %1
// CHECK-NEXT:  return %2
// CHECK-NEXT:  output v3 "result0"
func.func @depthwise(%x: tensor<1x4x8x8xf32>, %w: tensor<4x3x3xf32>, %init: tensor<1x4x6x6xf32>) -> tensor<1x4x6x6xf32> {
  %y = linalg.depthwise_conv_2d_nchw_chw ins(%x, %w : tensor<1x4x8x8xf32>, tensor<4x3x3xf32>) outs(%init : tensor<1x4x6x6xf32>) -> tensor<1x4x6x6xf32>
  return %y : tensor<1x4x6x6xf32>
}
// CHECK-LABEL: graph "pool"
// CHECK-NEXT:  input v0: f32[1,4,8,8] "argument0"
// CHECK-NEXT:  window "pooling_nchw_max" loops(d0:1, d1:4, d2:4, d3:4, d4:2 reduction, d5:2 reduction) reads(v0[d0, d1, 2*d2+d4, 2*d3+d5]) writes(v1[d0, d1, d2, d3]: f32[1,4,4,4] "result0" maximum from -Inf) numeric(f32 f32 f32) flops 256 bytes 1280
// CHECK-NEXT:  output v1 "result0"
func.func @pool(%x: tensor<1x4x8x8xf32>) -> tensor<1x4x4x4xf32> {
  %low = arith.constant 0xFF800000 : f32
  %w = tensor.empty() : tensor<2x2xf32>
  %empty = tensor.empty() : tensor<1x4x4x4xf32>
  %init = linalg.fill ins(%low : f32) outs(%empty : tensor<1x4x4x4xf32>) -> tensor<1x4x4x4xf32>
  %y = linalg.pooling_nchw_max {strides = dense<2> : tensor<2xi64>} ins(%x, %w : tensor<1x4x8x8xf32>, tensor<2x2xf32>) outs(%init : tensor<1x4x4x4xf32>) -> tensor<1x4x4x4xf32>
  return %y : tensor<1x4x4x4xf32>
}
// u8 x s8 with a zero point for the left operand and one for each result channel.
// CHECK-LABEL: graph "quantized"
// CHECK-NEXT:  input v0: u8[4,16] "argument0"
// CHECK-NEXT:  input v1: i8[16,8] "argument1"
// CHECK-NEXT:  input v2: u8[] "argument2"
// CHECK-NEXT:  input v3: i8[8] "argument3"
// CHECK-NEXT:  contract "matmul" loops(d0:4, d1:8, d2:16 reduction) reads(v0[d0, d2], v1[d2, d1], v2[], v3[d1]) writes(v4[d0, d1]: i32[4,8] "result0" sum from 0) roles(lhs 0 rhs 1 m [d0] n [d1] k [d2] lhs_zero_point 2 rhs_zero_point 3) numeric(u8 i32 i32) flops 1024 bytes 329
// CHECK-NEXT:  %0:u8 = input 0
// CHECK-NEXT:  %1:i8 = input 1
// CHECK-NEXT:  %2:u8 = input 2
// CHECK-NEXT:  %3:i8 = input 3
// CHECK-NEXT:  %4:i32 = convert %0
// CHECK-NEXT:  %5:i32 = convert %2
// CHECK-NEXT:  %6:i32 = convert %1
// CHECK-NEXT:  %7:i32 = convert %3
// CHECK-NEXT:  %8:i32 = subtract %4, %5
// CHECK-NEXT:  %9:i32 = subtract %6, %7
// CHECK-NEXT:  %10:i32 = multiply %8, %9
// CHECK-NEXT:  return %10
// CHECK-NEXT:  output v4 "result0"
func.func @quantized(%a: tensor<4x16xui8>, %b: tensor<16x8xi8>, %za: tensor<ui8>, %zb: tensor<8xi8>) -> tensor<4x8xi32> {
  %zero = arith.constant dense<0> : tensor<4x8xi32>
  %y = linalg.generic {
      indexing_maps = [affine_map<(m, n, k) -> (m, k)>, affine_map<(m, n, k) -> (k, n)>, affine_map<(m, n, k) -> ()>,
                       affine_map<(m, n, k) -> (n)>, affine_map<(m, n, k) -> (m, n)>],
      iterator_types = ["parallel", "parallel", "reduction"]}
      ins(%a, %b, %za, %zb : tensor<4x16xui8>, tensor<16x8xi8>, tensor<ui8>, tensor<8xi8>) outs(%zero : tensor<4x8xi32>) {
  ^bb0(%l: ui8, %r: i8, %lz: ui8, %rz: i8, %acc: i32):
    %l8 = qd.bitcast %l : ui8 -> i8
    %lz8 = qd.bitcast %lz : ui8 -> i8
    %l32 = arith.extui %l8 : i8 to i32
    %lz32 = arith.extui %lz8 : i8 to i32
    %r32 = arith.extsi %r : i8 to i32
    %rz32 = arith.extsi %rz : i8 to i32
    %ls = arith.subi %l32, %lz32 : i32
    %rs = arith.subi %r32, %rz32 : i32
    %p = arith.muli %ls, %rs : i32
    %s = arith.addi %acc, %p : i32
    linalg.yield %s : i32
  } -> tensor<4x8xi32>
  return %y : tensor<4x8xi32>
}

// Zero points that are known stand in the body: u8 - 128 and i8 + 3.
// CHECK-LABEL: graph "known_zeros"
// CHECK: contract "matmul" {{.*}} roles(lhs 0 rhs 1 m [d0] n [d1] k [d2] lhs_zero 128 rhs_zero -3) numeric(u8 i32 i32)
func.func @known_zeros(%a: tensor<4x16xui8>, %b: tensor<16x8xi8>) -> tensor<4x8xi32> {
  %zero = arith.constant dense<0> : tensor<4x8xi32>
  %y = linalg.generic {
      indexing_maps = [affine_map<(m, n, k) -> (m, k)>, affine_map<(m, n, k) -> (k, n)>, affine_map<(m, n, k) -> (m, n)>],
      iterator_types = ["parallel", "parallel", "reduction"]}
      ins(%a, %b : tensor<4x16xui8>, tensor<16x8xi8>) outs(%zero : tensor<4x8xi32>) {
  ^bb0(%l: ui8, %r: i8, %acc: i32):
    %lz = arith.constant 128 : i32
    %rz = arith.constant -3 : i32
    %l8 = qd.bitcast %l : ui8 -> i8
    %l32 = arith.extui %l8 : i8 to i32
    %r32 = arith.extsi %r : i8 to i32
    %ls = arith.subi %l32, %lz : i32
    %rs = arith.subi %r32, %rz : i32
    %p = arith.muli %ls, %rs : i32
    %s = arith.addi %acc, %p : i32
    linalg.yield %s : i32
  } -> tensor<4x8xi32>
  return %y : tensor<4x8xi32>
}

// A product with a constant is still a contraction: the constant stays an operand.
// CHECK-LABEL: graph "ones"
// CHECK: constant v2: f32[16,8] = 1
// CHECK: contract "matmul" {{.*}} reads(v0[d0, d2], v2[d2, d1])
func.func @ones(%a: tensor<4x16xf32>, %init: tensor<4x8xf32>) -> tensor<4x8xf32> {
  %b = arith.constant dense<1.0> : tensor<16x8xf32>
  %c = linalg.matmul ins(%a, %b : tensor<4x16xf32>, tensor<16x8xf32>) outs(%init : tensor<4x8xf32>) -> tensor<4x8xf32>
  return %c : tensor<4x8xf32>
}
