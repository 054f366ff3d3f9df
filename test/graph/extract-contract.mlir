// Contractions: matrix products, convolutions, integer contractions with zero points.
// RUN: quadrille-opt --qd-print-kernels %s -o /dev/null | FileCheck %s

// CHECK-LABEL: graph "matmul"
// CHECK-NEXT: input v0: f32[4,16] "A"
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
func.func @batched(%a: tensor<2x4x16xf16>, %b: tensor<2x8x16xf16>, %bias: tensor<8xf32>) -> tensor<2x4x8xf32> {
  %empty = tensor.empty() : tensor<2x4x8xf32>
  %init = linalg.broadcast ins(%bias : tensor<8xf32>) outs(%empty : tensor<2x4x8xf32>) dimensions = [0, 1]
      loc("bias"("Add"))
  %c = linalg.batch_matmul_transpose_b ins(%a, %b : tensor<2x4x16xf16>, tensor<2x8x16xf16>)
      outs(%init : tensor<2x4x8xf32>) -> tensor<2x4x8xf32> loc("product"("MatMul"))
  return %c : tensor<2x4x8xf32>
}

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
func.func @grouped(%x: tensor<1x2x3x8x8xf32>, %w: tensor<2x5x3x3x3xf32>, %init: tensor<1x2x5x6x6xf32>) -> tensor<1x2x5x6x6xf32> {
  %y = linalg.conv_2d_ngchw_gfchw ins(%x, %w : tensor<1x2x3x8x8xf32>, tensor<2x5x3x3x3xf32>) outs(%init : tensor<1x2x5x6x6xf32>) -> tensor<1x2x5x6x6xf32>
  return %y : tensor<1x2x5x6x6xf32>
}
func.func @depthwise(%x: tensor<1x4x8x8xf32>, %w: tensor<4x3x3xf32>, %init: tensor<1x4x6x6xf32>) -> tensor<1x4x6x6xf32> {
  %y = linalg.depthwise_conv_2d_nchw_chw ins(%x, %w : tensor<1x4x8x8xf32>, tensor<4x3x3xf32>) outs(%init : tensor<1x4x6x6xf32>) -> tensor<1x4x6x6xf32>
  return %y : tensor<1x4x6x6xf32>
}
func.func @pool(%x: tensor<1x4x8x8xf32>) -> tensor<1x4x4x4xf32> {
  %low = arith.constant 0xFF800000 : f32
  %w = tensor.empty() : tensor<2x2xf32>
  %empty = tensor.empty() : tensor<1x4x4x4xf32>
  %init = linalg.fill ins(%low : f32) outs(%empty : tensor<1x4x4x4xf32>) -> tensor<1x4x4x4xf32>
  %y = linalg.pooling_nchw_max {strides = dense<2> : tensor<2xi64>} ins(%x, %w : tensor<1x4x8x8xf32>, tensor<2x2xf32>) outs(%init : tensor<1x4x4x4xf32>) -> tensor<1x4x4x4xf32>
  return %y : tensor<1x4x4x4xf32>
}
// u8 x s8 with a zero point for the left operand and one for each result channel.
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
