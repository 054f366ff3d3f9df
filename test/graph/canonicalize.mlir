// Reshapes of reshapes and of weights, casts there and back; the elements of weights stay where they are.
// RUN: quadrille-opt --canonicalize %s | FileCheck %s

// CHECK-LABEL: func.func @reshapes(
// CHECK-SAME: %[[X:.*]]: tensor<2x6xf32>
// CHECK: %[[R:.*]] = qd.reshape %[[X]] : tensor<2x6xf32> -> tensor<4x3xf32>
// CHECK: return %[[X]], %[[R]]
func.func @reshapes(%x: tensor<2x6xf32>) -> (tensor<2x6xf32>, tensor<4x3xf32>) {
  %0 = qd.reshape %x : tensor<2x6xf32> -> tensor<12xf32>
  %1 = qd.reshape %0 : tensor<12xf32> -> tensor<2x6xf32>
  %2 = qd.reshape %0 : tensor<12xf32> -> tensor<4x3xf32>
  return %1, %2 : tensor<2x6xf32>, tensor<4x3xf32>
}

// CHECK-LABEL: func.func @weight(
// CHECK: %[[W:.*]] = qd.weight "w" from "m.onnx" at 0, 24 bytes : tensor<3x2xf32>
// CHECK-NOT: qd.reshape
// CHECK: return %[[W]]
func.func @weight() -> tensor<3x2xf32> {
  %0 = qd.weight "w" from "m.onnx" at 0, 24 bytes : tensor<6xf32>
  %1 = qd.reshape %0 : tensor<6xf32> -> tensor<3x2xf32>
  return %1 : tensor<3x2xf32>
}

// CHECK-LABEL: func.func @casts(
// CHECK-SAME: %[[X:.*]]: ui8
// CHECK: return %[[X]]
func.func @casts(%x: ui8) -> ui8 {
  %0 = qd.bitcast %x : ui8 -> i8
  %1 = qd.bitcast %0 : i8 -> ui8
  return %1 : ui8
}

// Composites without a user go away.
// CHECK-LABEL: func.func @dead(
// CHECK-NOT: qd.composite
func.func @dead(%x: tensor<4xf32>) -> tensor<4xf32> {
  %0 = qd.composite "c"(%x) : (tensor<4xf32>) -> tensor<4xf32> {
  ^bb0(%a: tensor<4xf32>):
    qd.yield %a : tensor<4xf32>
  }
  return %x : tensor<4xf32>
}
