// Reductions with every combiner, and pooling.
// RUN: quadrille-opt --qd-print-kernels %s -o /dev/null | FileCheck %s

#in = affine_map<(i, j) -> (i, j)>
#out = affine_map<(i, j) -> (i)>

// CHECK-LABEL: graph "floats"
// CHECK-NEXT:  input v0: f32[4,8] "argument0"
// CHECK-NEXT:  input v1: f32[4] "argument1"
// CHECK-NEXT:  reduce "reduce_sum" loops(d0:4, d1:8 reduction) reads(v0[d0, d1]) writes(v2[d0]: f32[4] "result0" sum from v1[d0], v3[d0]: f32[4] "result1" product from v1[d0], v4[d0]: f32[4] "result2" minimum from v1[d0], v5[d0]: f32[4] "result3" maximum from v1[d0], v6[d0]: f32[4] "result4" minimum_number from v1[d0], v7[d0]: f32[4] "result5" maximum_number from v1[d0]) numeric(f32 f32 f32) flops 224 bytes 240
// CHECK-NEXT:  %0:f32 = input 0
// CHECK-NEXT:  %1:f32 = multiply %0, %0
// CHECK-NEXT:  return %1, %0, %0, %0, %0, %0
// CHECK-NEXT:  output v2 "result0"
// CHECK-NEXT:  output v3 "result1"
// CHECK-NEXT:  output v4 "result2"
// CHECK-NEXT:  output v5 "result3"
// CHECK-NEXT:  output v6 "result4"
// CHECK-NEXT:  output v7 "result5"
func.func @floats(%a: tensor<4x8xf32>, %init: tensor<4xf32>) -> (tensor<4xf32>, tensor<4xf32>, tensor<4xf32>, tensor<4xf32>, tensor<4xf32>, tensor<4xf32>) {
  %r:6 = linalg.generic {indexing_maps = [#in, #out, #out, #out, #out, #out, #out], iterator_types = ["parallel", "reduction"]}
      ins(%a : tensor<4x8xf32>)
      outs(%init, %init, %init, %init, %init, %init : tensor<4xf32>, tensor<4xf32>, tensor<4xf32>, tensor<4xf32>, tensor<4xf32>, tensor<4xf32>) {
  ^bb0(%x: f32, %o0: f32, %o1: f32, %o2: f32, %o3: f32, %o4: f32, %o5: f32):
    %square = arith.mulf %x, %x : f32
    %0 = arith.addf %square, %o0 : f32
    %1 = arith.mulf %o1, %x : f32
    %2 = arith.minimumf %x, %o2 : f32
    %3 = arith.maximumf %x, %o3 : f32
    %4 = arith.minnumf %x, %o4 : f32
    %5 = arith.maxnumf %x, %o5 : f32
    linalg.yield %0, %1, %2, %3, %4, %5 : f32, f32, f32, f32, f32, f32
  } -> (tensor<4xf32>, tensor<4xf32>, tensor<4xf32>, tensor<4xf32>, tensor<4xf32>, tensor<4xf32>)
  return %r#0, %r#1, %r#2, %r#3, %r#4, %r#5 : tensor<4xf32>, tensor<4xf32>, tensor<4xf32>, tensor<4xf32>, tensor<4xf32>, tensor<4xf32>
}

// CHECK-LABEL: graph "integers"
// CHECK-NEXT:  input v0: i32[4,8] "argument0"
// CHECK-NEXT:  reduce "reduce_sum" loops(d0:4, d1:8 reduction) reads(v0[d0, d1]) writes(v1[d0]: i32[4] "result0" sum from -1, v2[d0]: i32[4] "result1" product from -1, v3[d0]: i32[4] "result2" minimum from -1, v4[d0]: i32[4] "result3" maximum from -1, v5[d0]: i32[4] "result4" and from -1, v6[d0]: i32[4] "result5" or from -1, v7[d0]: i32[4] "result6" xor from -1) numeric(i32 i32 i32) flops 224 bytes 240
// CHECK-NEXT:  %0:i32 = input 0
// CHECK-NEXT:  return %0, %0, %0, %0, %0, %0, %0
// CHECK-NEXT:  output v1 "result0"
// CHECK-NEXT:  output v2 "result1"
// CHECK-NEXT:  output v3 "result2"
// CHECK-NEXT:  output v4 "result3"
// CHECK-NEXT:  output v5 "result4"
// CHECK-NEXT:  output v6 "result5"
// CHECK-NEXT:  output v7 "result6"
func.func @integers(%a: tensor<4x8xi32>) -> (tensor<4xi32>, tensor<4xi32>, tensor<4xi32>, tensor<4xi32>, tensor<4xi32>, tensor<4xi32>, tensor<4xi32>) {
  %init = arith.constant dense<-1> : tensor<4xi32>
  %r:7 = linalg.generic {indexing_maps = [#in, #out, #out, #out, #out, #out, #out, #out], iterator_types = ["parallel", "reduction"]}
      ins(%a : tensor<4x8xi32>)
      outs(%init, %init, %init, %init, %init, %init, %init : tensor<4xi32>, tensor<4xi32>, tensor<4xi32>, tensor<4xi32>, tensor<4xi32>, tensor<4xi32>, tensor<4xi32>) {
  ^bb0(%x: i32, %o0: i32, %o1: i32, %o2: i32, %o3: i32, %o4: i32, %o5: i32, %o6: i32):
    %0 = arith.addi %x, %o0 : i32
    %1 = arith.muli %x, %o1 : i32
    %2 = arith.minsi %x, %o2 : i32
    %3 = arith.maxsi %x, %o3 : i32
    %4 = arith.andi %x, %o4 : i32
    %5 = arith.ori %x, %o5 : i32
    %6 = arith.xori %x, %o6 : i32
    linalg.yield %0, %1, %2, %3, %4, %5, %6 : i32, i32, i32, i32, i32, i32, i32
  } -> (tensor<4xi32>, tensor<4xi32>, tensor<4xi32>, tensor<4xi32>, tensor<4xi32>, tensor<4xi32>, tensor<4xi32>)
  return %r#0, %r#1, %r#2, %r#3, %r#4, %r#5, %r#6 : tensor<4xi32>, tensor<4xi32>, tensor<4xi32>, tensor<4xi32>, tensor<4xi32>, tensor<4xi32>, tensor<4xi32>
}

// The combination is unsigned though its arithmetic is signless.
// CHECK-LABEL: graph "unsigned"
// CHECK-NEXT:  input v0: u8[4,8] "argument0"
// CHECK-NEXT:  reduce "reduce_maximum" loops(d0:4, d1:8 reduction) reads(v0[d0, d1]) writes(v1[d0]: u8[4] "result0" maximum from 0) numeric(u8 u8 u8) flops 32 bytes 36
// CHECK-NEXT:  output v1 "result0"
func.func @unsigned(%a: tensor<4x8xui8>) -> tensor<4xui8> {
  %init = arith.constant dense<0> : tensor<4xui8>
  %r = linalg.generic {indexing_maps = [#in, #out], iterator_types = ["parallel", "reduction"]}
      ins(%a : tensor<4x8xui8>) outs(%init : tensor<4xui8>) {
  ^bb0(%x: ui8, %o: ui8):
    %xs = qd.bitcast %x : ui8 -> i8
    %os = qd.bitcast %o : ui8 -> i8
    %m = arith.maxui %xs, %os : i8
    %mu = qd.bitcast %m : i8 -> ui8
    linalg.yield %mu : ui8
  } -> tensor<4xui8>
  return %r : tensor<4xui8>
}

// CHECK-LABEL: graph "bools"
// CHECK-NEXT:  input v0: bool[4,8] "argument0"
// CHECK-NEXT:  reduce "reduce_and" loops(d0:4, d1:8 reduction) reads(v0[d0, d1]) writes(v1[d0]: bool[4] "result0" and from true, v2[d0]: bool[4] "result1" or from true) numeric(bool bool bool) flops 64 bytes 40
// CHECK-NEXT:  %0:bool = input 0
// CHECK-NEXT:  return %0, %0
// CHECK-NEXT:  output v1 "result0"
// CHECK-NEXT:  output v2 "result1"
func.func @bools(%a: tensor<4x8xi1>) -> (tensor<4xi1>, tensor<4xi1>) {
  %true = arith.constant true
  %e = tensor.empty() : tensor<4xi1>
  %init = linalg.fill ins(%true : i1) outs(%e : tensor<4xi1>) -> tensor<4xi1>
  %r:2 = linalg.generic {indexing_maps = [#in, #out, #out], iterator_types = ["parallel", "reduction"]}
      ins(%a : tensor<4x8xi1>) outs(%init, %init : tensor<4xi1>, tensor<4xi1>) {
  ^bb0(%x: i1, %o0: i1, %o1: i1):
    %0 = arith.andi %x, %o0 : i1
    %1 = arith.maxui %x, %o1 : i1
    linalg.yield %0, %1 : i1, i1
  } -> (tensor<4xi1>, tensor<4xi1>)
  return %r#0, %r#1 : tensor<4xi1>, tensor<4xi1>
}

// Half precision sums accumulate in f32.
// CHECK-LABEL: graph "half"
// CHECK-NEXT:  input v0: f16[4,8] "argument0"
// CHECK-NEXT:  reduce "reduce_sum" loops(d0:4, d1:8 reduction) reads(v0[d0, d1]) writes(v1[d0]: f16[4] "result0" sum from 0) numeric(f16 f16 f32) flops 32 bytes 72
// CHECK-NEXT:  output v1 "result0"
func.func @half(%a: tensor<4x8xf16>) -> tensor<4xf16> {
  %init = arith.constant dense<0.0> : tensor<4xf16>
  %r = linalg.reduce { arith.addf } ins(%a : tensor<4x8xf16>) outs(%init : tensor<4xf16>) dimensions = [1]
  return %r : tensor<4xf16>
}

// Pooling is no contraction, though it has a second operand: the window's shape.
// CHECK-LABEL: graph "pool"
// CHECK-NEXT:  input v0: f32[1,4,8,8] "argument0"
// CHECK-NEXT:  window "pooling_nchw_max" loops(d0:1, d1:4, d2:4, d3:4, d4:2 reduction, d5:2 reduction) reads(v0[d0, d1, 2*d2+d4, 2*d3+d5]) writes(v1[d0, d1, d2, d3]: f32[1,4,4,4] "result0" maximum from -Inf) numeric(f32 f32 f32) flops 256 bytes 1280
// CHECK-NEXT:  window "pooling_nchw_sum" loops(d0:1, d1:4, d2:4, d3:4, d4:2 reduction, d5:2 reduction) reads(v0[d0, d1, 2*d2+d4, 2*d3+d5]) writes(v2[d0, d1, d2, d3]: f32[1,4,4,4] "result1" sum from 0) numeric(f32 f32 f32) flops 256 bytes 1280
// CHECK-NEXT:  output v1 "result0"
// CHECK-NEXT:  output v2 "result1"
func.func @pool(%x: tensor<1x4x8x8xf32>) -> (tensor<1x4x4x4xf32>, tensor<1x4x4x4xf32>) {
  %low = arith.constant 0xFF800000 : f32
  %zero = arith.constant 0.0 : f32
  %w = tensor.empty() : tensor<2x2xf32>
  %empty = tensor.empty() : tensor<1x4x4x4xf32>
  %init = linalg.fill ins(%low : f32) outs(%empty : tensor<1x4x4x4xf32>) -> tensor<1x4x4x4xf32>
  %max = linalg.pooling_nchw_max {strides = dense<2> : tensor<2xi64>}
      ins(%x, %w : tensor<1x4x8x8xf32>, tensor<2x2xf32>) outs(%init : tensor<1x4x4x4xf32>) -> tensor<1x4x4x4xf32>
  %init0 = linalg.fill ins(%zero : f32) outs(%empty : tensor<1x4x4x4xf32>) -> tensor<1x4x4x4xf32>
  %sum = linalg.pooling_nchw_sum {strides = dense<2> : tensor<2xi64>}
      ins(%x, %w : tensor<1x4x8x8xf32>, tensor<2x2xf32>) outs(%init0 : tensor<1x4x4x4xf32>) -> tensor<1x4x4x4xf32>
  return %max, %sum : tensor<1x4x4x4xf32>, tensor<1x4x4x4xf32>
}

// What canonicalization leaves of a sum of zeros (its initial value) and of a product of zeros (zero).
// CHECK-LABEL: graph "settled"
// CHECK:       reduce "reduce_or" loops(d0:4, d1:8 reduction) reads() writes(v4[d0]: i32[4] "result0" or from v2[d0], v5[d0]: i32[4] "result1" or from 7)
// CHECK-NEXT:  %0:i32 = constant 0x0
// CHECK-NEXT:  %1:i32 = constant 0x7
// CHECK-NEXT:  return %0, %1
// CHECK-NEXT:  reduce "reduce_sum" loops(d0:4, d1:8 reduction) reads() writes(v6[d0]: f32[4] "result2" sum from v3[d0])
// CHECK-NEXT:  %0:f32 = constant 0x80000000
func.func @settled(%a: tensor<4x8xi32>, %f: tensor<4x8xf32>, %i: tensor<4xi32>, %g: tensor<4xf32>) -> (tensor<4xi32>, tensor<4xi32>, tensor<4xf32>) {
  %0:2 = linalg.generic {indexing_maps = [#in, #out, #out], iterator_types = ["parallel", "reduction"]}
      ins(%a : tensor<4x8xi32>) outs(%i, %i : tensor<4xi32>, tensor<4xi32>) {
  ^bb0(%x: i32, %o0: i32, %o1: i32):
    %c = arith.constant 7 : i32
    linalg.yield %o0, %c : i32, i32
  } -> (tensor<4xi32>, tensor<4xi32>)
  %1 = linalg.generic {indexing_maps = [#in, #out], iterator_types = ["parallel", "reduction"]}
      ins(%f : tensor<4x8xf32>) outs(%g : tensor<4xf32>) {
  ^bb0(%x: f32, %o0: f32):
    linalg.yield %o0 : f32
  } -> tensor<4xf32>
  return %0#0, %0#1, %1 : tensor<4xi32>, tensor<4xi32>, tensor<4xf32>
}
