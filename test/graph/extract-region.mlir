// Composites and scans keep their body as a graph of its own.
// RUN: quadrille-opt --qd-print-kernels %s -o /dev/null | FileCheck %s

// CHECK-LABEL: graph "composite"
// CHECK-NEXT:  input v0: f32[4,8] "argument0"
// CHECK-NEXT:  composite "softmax" reads(v0) writes(v1: f32[4,8] "result0") {axis = 1, epsilon = 2.500000e-01, mode = "fast", names = ["a", "b"], scales = [5.000000e-01, 2.000000e+00], stable = 1} flops 64 bytes 256 nodes(Softmax "probabilities")
// CHECK-NEXT:  graph "softmax"
// CHECK-NEXT:  input v0: f32[4,8]
// CHECK-NEXT:  map "exp" loops(d0:4, d1:8) reads(v0[d0, d1]) writes(v1[d0, d1]: f32[4,8]) numeric(f32 f32 f32) flops 32 bytes 256 nodes(Softmax "probabilities")
// CHECK-NEXT:  %0:f32 = input 0
// CHECK-NEXT:  %1:f32 = exp %0
// CHECK-NEXT:  return %1
// CHECK-NEXT:  map "add" loops(d0:4, d1:8) reads(v1[d0, d1]) writes(v2[d0, d1]: f32[4,8]) numeric(f32 f32 f32) flops 32 bytes 256
// CHECK-NEXT:  %0:f32 = input 0
// CHECK-NEXT:  %1:f32 = constant 0x3f800000
// CHECK-NEXT:  %2:f32 = add %0, %1
// CHECK-NEXT:  return %2
// CHECK-NEXT:  output v2 ""
// CHECK-NEXT:  output v1 "result0"
func.func @composite(%x: tensor<4x8xf32>) -> tensor<4x8xf32> {
  %0 = qd.composite "softmax"(%x) with {axis = 1 : i64, scales = array<f64: 0.5, 2.0>, mode = "fast", names = ["a", "b"], stable = true, epsilon = 0.25 : f32} : (tensor<4x8xf32>) -> tensor<4x8xf32> {
  ^bb0(%a: tensor<4x8xf32>):
    %e = math.exp %a : tensor<4x8xf32> loc("probabilities"("Softmax"))
    %one = arith.constant dense<1.0> : tensor<4x8xf32>
    %s = arith.addf %e, %one : tensor<4x8xf32>
    qd.yield %s : tensor<4x8xf32>
  } loc("probabilities"("Softmax"))
  return %0 : tensor<4x8xf32>
}

// CHECK-LABEL: graph "scan"
// CHECK-NEXT:  input v0: f32[4] "argument0"
// CHECK-NEXT:  input v1: f32[4,5] "argument1"
// CHECK-NEXT:  input v2: f32[4] "argument2"
// CHECK-NEXT:  other "scan" reads(v0, v1, v2) writes(v3: f32[4] "result0", v4: f32[5,4] "result1") {input_axes = [1], input_reversed = [1], output_axes = [0], output_reversed = [0], sequences = 1, states = 1, trip_count = 5} flops 40 bytes 208
// CHECK-NEXT:  graph "scan"
// CHECK-NEXT:  input v0: f32[4]
// CHECK-NEXT:  input v1: f32[4]
// CHECK-NEXT:  input v2: f32[4]
// CHECK-NEXT:  map "multiply" loops(d0:4) reads(v1[d0], v2[d0]) writes(v3[d0]: f32[4]) numeric(f32 f32 f32) flops 4 bytes 48
// CHECK-NEXT:  %0:f32 = input 0
// CHECK-NEXT:  %1:f32 = input 1
// CHECK-NEXT:  %2:f32 = multiply %0, %1
// CHECK-NEXT:  return %2
// CHECK-NEXT:  map "add" loops(d0:4) reads(v0[d0], v3[d0]) writes(v4[d0]: f32[4]) numeric(f32 f32 f32) flops 4 bytes 48
// CHECK-NEXT:  %0:f32 = input 0
// CHECK-NEXT:  %1:f32 = input 1
// CHECK-NEXT:  %2:f32 = add %0, %1
// CHECK-NEXT:  return %2
// CHECK-NEXT:  output v4 ""
// CHECK-NEXT:  output v3 ""
// CHECK-NEXT:  output v3 "result0"
// CHECK-NEXT:  output v4 "result1"
func.func @scan(%h: tensor<4xf32>, %x: tensor<4x5xf32>, %c: tensor<4xf32>) -> (tensor<4xf32>, tensor<5x4xf32>) {
  %0, %1 = qd.scan 5 states(%h : tensor<4xf32>) sequences(%x : tensor<4x5xf32>) captures(%c : tensor<4xf32>)
      {input_axes = array<i64: 1>, input_reversed = array<i1: true>, output_axes = array<i64: 0>,
       output_reversed = array<i1: false>} -> tensor<4xf32>, tensor<5x4xf32> {
  ^bb0(%state: tensor<4xf32>, %slice: tensor<4xf32>, %capture: tensor<4xf32>):
    %p = arith.mulf %slice, %capture : tensor<4xf32>
    %n = arith.addf %state, %p : tensor<4xf32>
    qd.yield %n, %p : tensor<4xf32>, tensor<4xf32>
  }
  return %0, %1 : tensor<4xf32>, tensor<5x4xf32>
}
