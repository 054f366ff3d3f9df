// Every operation and attribute of the dialect is printed as it was written.
// RUN: quadrille-opt %s | quadrille-opt | FileCheck %s
// RUN: quadrille-opt --mlir-print-op-generic %s | quadrille-opt | FileCheck %s

// CHECK-LABEL: func.func @bitcast(
// CHECK: qd.bitcast %{{.*}} : ui8 -> i8
// CHECK: qd.bitcast %{{.*}} : f32 -> i32
func.func @bitcast(%a: ui8, %b: f32) -> (i8, i32) {
  %0 = qd.bitcast %a : ui8 -> i8
  %1 = qd.bitcast %b : f32 -> i32
  return %0, %1 : i8, i32
}

// CHECK-LABEL: func.func @weights(
// CHECK: qd.weight "absent" : tensor<2x3xf32>
// CHECK: qd.weight "in file" from "m.onnx" at 128, 24 bytes : tensor<2x3xf32>
// CHECK: qd.weight "here" data dense_resource<here> : tensor<2xi8> : tensor<2xi8>
func.func @weights() -> (tensor<2x3xf32>, tensor<2x3xf32>, tensor<2xi8>) {
  %0 = qd.weight "absent" : tensor<2x3xf32>
  %1 = qd.weight "in file" from "m.onnx" at 128, 24 bytes : tensor<2x3xf32>
  %2 = qd.weight "here" data dense_resource<here> : tensor<2xi8> : tensor<2xi8>
  return %0, %1, %2 : tensor<2x3xf32>, tensor<2x3xf32>, tensor<2xi8>
}

// CHECK-LABEL: func.func @reshape(
// CHECK: qd.reshape %{{.*}} : tensor<2x6xui4> -> tensor<3x1x4xui4>
func.func @reshape(%a: tensor<2x6xui4>) -> tensor<3x1x4xui4> {
  %0 = qd.reshape %a : tensor<2x6xui4> -> tensor<3x1x4xui4>
  return %0 : tensor<3x1x4xui4>
}

// CHECK-LABEL: func.func @gathers(
// CHECK: qd.gather %{{.*}}[%{{.*}}] axis 1 : tensor<4x5x6xf16>, tensor<2x3xi64> -> tensor<4x2x3x6xf16>
// CHECK: qd.gather_elements %{{.*}}[%{{.*}}] axis 0 : tensor<4x5x6xf16>, tensor<2x5x6xi32> -> tensor<2x5x6xf16>
// CHECK: qd.gather_nd %{{.*}}[%{{.*}}] batch_dims 1 : tensor<4x5x6xf16>, tensor<4x7x1xi64> -> tensor<4x7x6xf16>
func.func @gathers(%a: tensor<4x5x6xf16>, %i: tensor<2x3xi64>, %j: tensor<2x5x6xi32>, %k: tensor<4x7x1xi64>)
    -> (tensor<4x2x3x6xf16>, tensor<2x5x6xf16>, tensor<4x7x6xf16>) {
  %0 = qd.gather %a[%i] axis 1 : tensor<4x5x6xf16>, tensor<2x3xi64> -> tensor<4x2x3x6xf16>
  %1 = qd.gather_elements %a[%j] axis 0 : tensor<4x5x6xf16>, tensor<2x5x6xi32> -> tensor<2x5x6xf16>
  %2 = qd.gather_nd %a[%k] batch_dims 1 : tensor<4x5x6xf16>, tensor<4x7x1xi64> -> tensor<4x7x6xf16>
  return %0, %1, %2 : tensor<4x2x3x6xf16>, tensor<2x5x6xf16>, tensor<4x7x6xf16>
}

// CHECK-LABEL: func.func @scatters(
// CHECK: qd.scatter_elements %{{.*}} into %{{.*}}[%{{.*}}] axis 1 add : tensor<4x2xf32>, tensor<4x5xf32>, tensor<4x2xi64> -> tensor<4x5xf32>
// CHECK: qd.scatter_nd %{{.*}} into %{{.*}}[%{{.*}}] none : tensor<3x5xf32>, tensor<4x5xf32>, tensor<3x1xi64> -> tensor<4x5xf32>
func.func @scatters(%a: tensor<4x5xf32>, %u: tensor<4x2xf32>, %i: tensor<4x2xi64>, %v: tensor<3x5xf32>,
                    %j: tensor<3x1xi64>) -> (tensor<4x5xf32>, tensor<4x5xf32>) {
  %0 = qd.scatter_elements %u into %a[%i] axis 1 add : tensor<4x2xf32>, tensor<4x5xf32>, tensor<4x2xi64> -> tensor<4x5xf32>
  %1 = qd.scatter_nd %v into %a[%j] none : tensor<3x5xf32>, tensor<4x5xf32>, tensor<3x1xi64> -> tensor<4x5xf32>
  return %0, %1 : tensor<4x5xf32>, tensor<4x5xf32>
}

// CHECK-LABEL: func.func @order(
// CHECK: qd.top_k %{{.*}} axis 1 largest true sorted false : tensor<4x5xf32> -> tensor<4x2xf32>, tensor<4x2xi64>
// CHECK: qd.sort %{{.*}} axis 0 descending true : tensor<4x5xf32> -> tensor<4x5xf32>, tensor<4x5xi64>
// CHECK: qd.arg_reduce maximum %{{.*}} axis 0 select_last false : tensor<4x5xf32> -> tensor<5xi64>
// CHECK: qd.cumulative product %{{.*}} axis 1 exclusive true reverse false : tensor<4x5xf32> -> tensor<4x5xf32>
func.func @order(%a: tensor<4x5xf32>)
    -> (tensor<4x2xf32>, tensor<4x2xi64>, tensor<4x5xf32>, tensor<4x5xi64>, tensor<5xi64>, tensor<4x5xf32>) {
  %0, %1 = qd.top_k %a axis 1 largest true sorted false : tensor<4x5xf32> -> tensor<4x2xf32>, tensor<4x2xi64>
  %2, %3 = qd.sort %a axis 0 descending true : tensor<4x5xf32> -> tensor<4x5xf32>, tensor<4x5xi64>
  %4 = qd.arg_reduce maximum %a axis 0 select_last false : tensor<4x5xf32> -> tensor<5xi64>
  %5 = qd.cumulative product %a axis 1 exclusive true reverse false : tensor<4x5xf32> -> tensor<4x5xf32>
  return %0, %1, %2, %3, %4, %5
      : tensor<4x2xf32>, tensor<4x2xi64>, tensor<4x5xf32>, tensor<4x5xi64>, tensor<5xi64>, tensor<4x5xf32>
}

// CHECK-LABEL: func.func @random(
// CHECK: qd.random_bits seed %{{.*}} : tensor<i64> {offset = 8 : i64} -> tensor<16xui32>
// CHECK: qd.random_bits {seed_value = 7 : i64} -> tensor<4xui32>
func.func @random(%seed: tensor<i64>) -> (tensor<16xui32>, tensor<4xui32>) {
  %0 = qd.random_bits seed %seed : tensor<i64> {offset = 8 : i64} -> tensor<16xui32>
  %1 = qd.random_bits {seed_value = 7 : i64} -> tensor<4xui32>
  return %0, %1 : tensor<16xui32>, tensor<4xui32>
}

// CHECK-LABEL: func.func @composite(
// CHECK: qd.composite "softmax"(%{{.*}}) with {axis = 1 : i64} : (tensor<4x8xf32>) -> tensor<4x8xf32>
// CHECK: ^bb0(%[[X:.*]]: tensor<4x8xf32>):
// CHECK: %[[E:.*]] = math.exp %[[X]]
// CHECK: qd.yield %[[E]] : tensor<4x8xf32>
func.func @composite(%x: tensor<4x8xf32>) -> tensor<4x8xf32> {
  %0 = qd.composite "softmax"(%x) with {axis = 1 : i64} : (tensor<4x8xf32>) -> tensor<4x8xf32> {
  ^bb0(%a: tensor<4x8xf32>):
    %e = math.exp %a : tensor<4x8xf32>
    qd.yield %e : tensor<4x8xf32>
  }
  return %0 : tensor<4x8xf32>
}

// CHECK-LABEL: func.func @scan(
// CHECK: qd.scan 5 states(%{{.*}} : tensor<4xf32>) sequences(%{{.*}} : tensor<4x5xf32>) captures(%{{.*}} : tensor<4xf32>)
// CHECK-SAME: input_axes = array<i64: 1>, input_reversed = array<i1: true>, output_axes = array<i64: 0>, output_reversed = array<i1: false>
// CHECK-SAME: -> tensor<4xf32>, tensor<5x4xf32> {
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

// CHECK-LABEL: func.func @attributes(
// CHECK-SAME: %{{.*}}: tensor<4xf32> {qd.name = "input:0"}
// CHECK-SAME: -> (tensor<4xf32> {qd.name = "output:0"})
// CHECK: qd.numeric = #qd.numeric<storage = cb16, multiply = f32, accumulate = u8, rounding = stochastic>
// CHECK-SAME: qd.operation = "exp"
func.func @attributes(%a: tensor<4xf32> {qd.name = "input:0"}) -> (tensor<4xf32> {qd.name = "output:0"}) {
  %0 = math.exp %a {qd.numeric = #qd.numeric<storage = cb16, multiply = f32, accumulate = u8, rounding = stochastic>,
                    qd.operation = "exp"} : tensor<4xf32>
  return %0 : tensor<4xf32>
}

{-#
  dialect_resources: { builtin: { here: "0x010000000102" } }
#-}
