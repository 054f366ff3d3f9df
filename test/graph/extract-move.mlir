// Kernels that move elements: slices, padding, concatenation, reshapes, transposes, indexed access.
// RUN: quadrille-opt --qd-print-kernels %s -o /dev/null | FileCheck %s

// CHECK-LABEL: graph "slices"
// CHECK-NEXT:  input v0: f32[8,10] "argument0"
// CHECK-NEXT:  input v1: f32[2,2] "argument1"
// CHECK-NEXT:  move "slice" loops(d0:3, d1:5) reads(v0[2*d0+1, 2*d1]) writes(v2[d0, d1]: f32[3,5] "result0") numeric(f32 f32 f32) flops 0 bytes 120
// CHECK-NEXT:  move "slice" loops(d0:5) reads(v0[7, d0+5]) writes(v3[d0]: f32[5] "result1") numeric(f32 f32 f32) flops 0 bytes 40
// CHECK-NEXT:  move "insert_slice" reads(v1, v0) writes(v4: f32[8,10] "result2") {offsets = [1, 2], sizes = [2, 2], strides = [3, 1]} flops 0 bytes 656
// CHECK-NEXT:  output v2 "result0"
// CHECK-NEXT:  output v3 "result1"
// CHECK-NEXT:  output v4 "result2"
func.func @slices(%a: tensor<8x10xf32>, %b: tensor<2x2xf32>) -> (tensor<3x5xf32>, tensor<5xf32>, tensor<8x10xf32>) {
  %0 = tensor.extract_slice %a[1, 0] [3, 5] [2, 2] : tensor<8x10xf32> to tensor<3x5xf32>
  %1 = tensor.extract_slice %a[7, 5] [1, 5] [1, 1] : tensor<8x10xf32> to tensor<5xf32>
  %2 = tensor.insert_slice %b into %a[1, 2] [2, 2] [3, 1] : tensor<2x2xf32> into tensor<8x10xf32>
  return %0, %1, %2 : tensor<3x5xf32>, tensor<5xf32>, tensor<8x10xf32>
}

// CHECK-LABEL: graph "shapes"
// CHECK-NEXT:  input v0: f32[2,6] "argument0"
// CHECK-NEXT:  input v1: f32[3,6] "argument1"
// CHECK-NEXT:  move "concat" reads(v0, v1) writes(v2: f32[5,6] "result0") {axis = 0} flops 0 bytes 240
// CHECK-NEXT:  move "reshape" reads(v0) writes(v3: f32[2,2,3] "result1") flops 0 bytes 96
// CHECK-NEXT:  move "reshape" reads(v0) writes(v4: f32[12] "result2") flops 0 bytes 96
// CHECK-NEXT:  move "reshape" reads(v0) writes(v5: f32[4,3] "result3") flops 0 bytes 96
// CHECK-NEXT:  move "transpose" loops(d0:6, d1:2) reads(v0[d1, d0]) writes(v6[d0, d1]: f32[6,2] "result4") numeric(f32 f32 f32) flops 0 bytes 96
// CHECK-NEXT:  move "broadcast" loops(d0:2, d1:3, d2:6) reads(v1[d1, d2]) writes(v7[d0, d1, d2]: f32[2,3,6] "result5") numeric(f32 f32 f32) flops 0 bytes 216
// CHECK-NEXT:  output v2 "result0"
// CHECK-NEXT:  output v3 "result1"
// CHECK-NEXT:  output v4 "result2"
// CHECK-NEXT:  output v5 "result3"
// CHECK-NEXT:  output v6 "result4"
// CHECK-NEXT:  output v7 "result5"
func.func @shapes(%a: tensor<2x6xf32>, %b: tensor<3x6xf32>) -> (tensor<5x6xf32>, tensor<2x2x3xf32>, tensor<12xf32>, tensor<4x3xf32>, tensor<6x2xf32>, tensor<2x3x6xf32>) {
  %0 = tensor.concat dim(0) %a, %b : (tensor<2x6xf32>, tensor<3x6xf32>) -> tensor<5x6xf32>
  %1 = tensor.expand_shape %a [[0], [1, 2]] output_shape [2, 2, 3] : tensor<2x6xf32> into tensor<2x2x3xf32>
  %2 = tensor.collapse_shape %a [[0, 1]] : tensor<2x6xf32> into tensor<12xf32>
  %3 = qd.reshape %a : tensor<2x6xf32> -> tensor<4x3xf32>
  %e = tensor.empty() : tensor<6x2xf32>
  %4 = linalg.transpose ins(%a : tensor<2x6xf32>) outs(%e : tensor<6x2xf32>) permutation = [1, 0]
  %f = tensor.empty() : tensor<2x3x6xf32>
  %5 = linalg.broadcast ins(%b : tensor<3x6xf32>) outs(%f : tensor<2x3x6xf32>) dimensions = [0]
  return %0, %1, %2, %3, %4, %5 : tensor<5x6xf32>, tensor<2x2x3xf32>, tensor<12xf32>, tensor<4x3xf32>, tensor<6x2xf32>, tensor<2x3x6xf32>
}

// Padding becomes part of the kernels that read it at loops; where somebody needs it as a whole it is a kernel.
// CHECK-LABEL: graph "pads"
// CHECK-NEXT:  input v0: i8[4] "argument0"
// CHECK-NEXT:  map "add" loops(d0:7) reads(v0[d0-2] pad 3) writes(v1[d0]: i8[7] "result1") numeric(i8 i8 i8) flops 7 bytes 11 nodes(Pad "padding", Add "sum")
// CHECK-NEXT:  %0:i8 = input 0
// CHECK-NEXT:  %1:i8 = add %0, %0
// CHECK-NEXT:  return %1
// CHECK-NEXT:  move "pad" loops(d0:7) reads(v0[d0-2] pad 3) writes(v2[d0]: i8[7] "result0") numeric(i8 i8 i8) flops 0 bytes 11 nodes(Pad "padding")
// CHECK-NEXT:  output v2 "result0"
// CHECK-NEXT:  output v1 "result1"
func.func @pads(%a: tensor<4xi8>) -> (tensor<7xi8>, tensor<7xi8>) {
  %c = arith.constant 3 : i8
  %p = tensor.pad %a low[2] high[1] {
  ^bb0(%i: index):
    tensor.yield %c : i8
  } : tensor<4xi8> to tensor<7xi8> loc("padding"("Pad"))
  %0 = arith.addi %p, %p : tensor<7xi8> loc("sum"("Add"))
  return %p, %0 : tensor<7xi8>, tensor<7xi8>
}

// Constants: a splat, elements in the text, a weight in a file, a weight whose elements are here.
// CHECK-LABEL: graph "constants"
// CHECK-NEXT:  constant v0: i64[3] "result0" = -7
// CHECK-NEXT:  constant v1: i4[2] "result1"
// CHECK-NEXT:  constant v2: bool[3] "result2"
// CHECK-NEXT:  constant v3: f16[2] "result3" = 1.5
// CHECK-NEXT:  constant v4: f32[100] "w" file "m.onnx" at 4096, 400 bytes absent
// CHECK-NEXT:  constant v5: i8[2] "here"
// CHECK-NEXT:  output v0 "result0"
// CHECK-NEXT:  output v1 "result1"
// CHECK-NEXT:  output v2 "result2"
// CHECK-NEXT:  output v3 "result3"
// CHECK-NEXT:  output v4 "result4"
// CHECK-NEXT:  output v5 "result5"
func.func @constants() -> (tensor<3xi64>, tensor<2xi4>, tensor<3xi1>, tensor<2xf16>, tensor<100xf32>, tensor<2xi8>) {
  %0 = arith.constant dense<-7> : tensor<3xi64>
  %1 = arith.constant dense<[-1, 7]> : tensor<2xi4>
  %2 = arith.constant dense<[true, false, true]> : tensor<3xi1>
  %3 = arith.constant dense<1.5> : tensor<2xf16>
  %4 = qd.weight "w" from "m.onnx" at 4096, 400 bytes : tensor<100xf32>
  %5 = qd.weight "here" data dense_resource<here> : tensor<2xi8> : tensor<2xi8>
  return %0, %1, %2, %3, %4, %5 : tensor<3xi64>, tensor<2xi4>, tensor<3xi1>, tensor<2xf16>, tensor<100xf32>, tensor<2xi8>
}

// CHECK-LABEL: graph "indexed"
// CHECK-NEXT:  input v0: f32[1000,16] "argument0"
// CHECK-NEXT:  input v1: i64[3] "argument1"
// CHECK-NEXT:  input v2: i64[2,16] "argument2"
// CHECK-NEXT:  input v3: i64[5,1] "argument3"
// CHECK-NEXT:  input v4: f32[2,16] "argument4"
// CHECK-NEXT:  input v5: f32[5,16] "argument5"
// CHECK-NEXT:  move "gather" reads(v0, v1) writes(v6: f32[3,16] "result0") {axis = 0} flops 0 bytes 408
// CHECK-NEXT:  move "gather_elements" reads(v0, v2) writes(v7: f32[2,16] "result1") {axis = 0} flops 0 bytes 512
// CHECK-NEXT:  move "gather_nd" reads(v0, v3) writes(v8: f32[5,16] "result2") {batch_dims = 0} flops 0 bytes 680
// CHECK-NEXT:  move "scatter_elements" reads(v0, v2, v4) writes(v9: f32[1000,16] "result3") {axis = 0, reduction = "none"} flops 0 bytes 128384
// CHECK-NEXT:  move "scatter_nd" reads(v0, v3, v5) writes(v10: f32[1000,16] "result4") {reduction = "max"} flops 80 bytes 128360
// CHECK-NEXT:  output v6 "result0"
// CHECK-NEXT:  output v7 "result1"
// CHECK-NEXT:  output v8 "result2"
// CHECK-NEXT:  output v9 "result3"
// CHECK-NEXT:  output v10 "result4"
func.func @indexed(%a: tensor<1000x16xf32>, %i: tensor<3xi64>, %e: tensor<2x16xi64>, %n: tensor<5x1xi64>, %u: tensor<2x16xf32>, %v: tensor<5x16xf32>)
    -> (tensor<3x16xf32>, tensor<2x16xf32>, tensor<5x16xf32>, tensor<1000x16xf32>, tensor<1000x16xf32>) {
  %0 = qd.gather %a[%i] axis 0 : tensor<1000x16xf32>, tensor<3xi64> -> tensor<3x16xf32>
  %1 = qd.gather_elements %a[%e] axis 0 : tensor<1000x16xf32>, tensor<2x16xi64> -> tensor<2x16xf32>
  %2 = qd.gather_nd %a[%n] batch_dims 0 : tensor<1000x16xf32>, tensor<5x1xi64> -> tensor<5x16xf32>
  %3 = qd.scatter_elements %u into %a[%e] axis 0 none : tensor<2x16xf32>, tensor<1000x16xf32>, tensor<2x16xi64> -> tensor<1000x16xf32>
  %4 = qd.scatter_nd %v into %a[%n] max : tensor<5x16xf32>, tensor<1000x16xf32>, tensor<5x1xi64> -> tensor<1000x16xf32>
  return %0, %1, %2, %3, %4 : tensor<3x16xf32>, tensor<2x16xf32>, tensor<5x16xf32>, tensor<1000x16xf32>, tensor<1000x16xf32>
}

// CHECK-LABEL: graph "order"
// CHECK-NEXT:  input v0: f32[4,8] "argument0"
// CHECK-NEXT:  input v1: i64[] "argument1"
// CHECK-NEXT:  other "top_k" reads(v0) writes(v2: f32[4,2] "result0", v3: i64[4,2] "result1") {axis = 1, largest = 1, sorted = 0} flops 96 bytes 224
// CHECK-NEXT:  other "sort" reads(v0) writes(v4: f32[4,8] "result2", v5: i64[4,8] "result3") {axis = 1, descending = 1} flops 96 bytes 512
// CHECK-NEXT:  reduce "arg_reduce" reads(v0) writes(v6: i64[4] "result4") {axis = 1, extremum = "minimum", select_last = 1} flops 32 bytes 160
// CHECK-NEXT:  other "cumulative" reads(v0) writes(v7: f32[4,8] "result5") {accumulation = "sum", axis = 0, exclusive = 0, reverse = 1} flops 32 bytes 256
// CHECK-NEXT:  other "random_bits" reads(v1) writes(v8: u32[4] "result6") {offset = 8} flops 0 bytes 24
// CHECK-NEXT:  other "random_bits" reads() writes(v9: u32[4] "result7") {offset = 0, seed = 7} flops 0 bytes 16
// CHECK-NEXT:  output v2 "result0"
// CHECK-NEXT:  output v3 "result1"
// CHECK-NEXT:  output v4 "result2"
// CHECK-NEXT:  output v5 "result3"
// CHECK-NEXT:  output v6 "result4"
// CHECK-NEXT:  output v7 "result5"
// CHECK-NEXT:  output v8 "result6"
// CHECK-NEXT:  output v9 "result7"
func.func @order(%a: tensor<4x8xf32>, %seed: tensor<i64>)
    -> (tensor<4x2xf32>, tensor<4x2xi64>, tensor<4x8xf32>, tensor<4x8xi64>, tensor<4xi64>, tensor<4x8xf32>, tensor<4xui32>, tensor<4xui32>) {
  %0, %1 = qd.top_k %a axis 1 largest true sorted false : tensor<4x8xf32> -> tensor<4x2xf32>, tensor<4x2xi64>
  %2, %3 = qd.sort %a axis 1 descending true : tensor<4x8xf32> -> tensor<4x8xf32>, tensor<4x8xi64>
  %4 = qd.arg_reduce minimum %a axis 1 select_last true : tensor<4x8xf32> -> tensor<4xi64>
  %5 = qd.cumulative sum %a axis 0 exclusive false reverse true : tensor<4x8xf32> -> tensor<4x8xf32>
  %6 = qd.random_bits seed %seed : tensor<i64> {offset = 8 : i64} -> tensor<4xui32>
  %7 = qd.random_bits {seed_value = 7 : i64} -> tensor<4xui32>
  return %0, %1, %2, %3, %4, %5, %6, %7 : tensor<4x2xf32>, tensor<4x2xi64>, tensor<4x8xf32>, tensor<4x8xi64>, tensor<4xi64>, tensor<4x8xf32>, tensor<4xui32>, tensor<4xui32>
}

{-#
  dialect_resources: { builtin: { here: "0x010000000102" } }
#-}
