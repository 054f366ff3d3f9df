// Elementwise kernels: broadcasts, transposed reads, constants in the body, signs.
// RUN: quadrille-opt --qd-print-kernels %s -o /dev/null | FileCheck %s

#identity = affine_map<(i, j) -> (i, j)>

// A row vector, a transposed matrix and a splat constant are read in place.
// CHECK-LABEL: graph "broadcast"
// CHECK-NEXT:  input v0: f32[4,8] "argument0"
// CHECK-NEXT:  input v1: f32[8] "argument1"
// CHECK-NEXT:  input v2: f32[8,4] "argument2"
// CHECK-NEXT:  map "map" loops(d0:4, d1:8) reads(v0[d0, d1], v1[d1], v2[d1, d0]) writes(v3[d0, d1]: f32[4,8] "result0") numeric(f32 f32 f32) flops 96 bytes 416
// CHECK-NEXT:  %0:f32 = input 0
// CHECK-NEXT:  %1:f32 = input 1
// CHECK-NEXT:  %2:f32 = input 2
// CHECK-NEXT:  %3:f32 = constant 0x40000000
// CHECK-NEXT:  %4:f32 = multiply %0, %3
// CHECK-NEXT:  %5:f32 = add %4, %1
// CHECK-NEXT:  %6:f32 = maximum %5, %2
// CHECK-NEXT:  return %6
// CHECK-NEXT:  output v3 "result0"
func.func @broadcast(%a: tensor<4x8xf32>, %row: tensor<8xf32>, %t: tensor<8x4xf32>) -> tensor<4x8xf32> {
  %two = arith.constant dense<2.0> : tensor<4x8xf32>
  %empty = tensor.empty() : tensor<4x8xf32>
  %y = linalg.generic {
      indexing_maps = [#identity, affine_map<(i, j) -> (j)>, affine_map<(i, j) -> (j, i)>, #identity, #identity],
      iterator_types = ["parallel", "parallel"]}
      ins(%a, %row, %t, %two : tensor<4x8xf32>, tensor<8xf32>, tensor<8x4xf32>, tensor<4x8xf32>)
      outs(%empty : tensor<4x8xf32>) {
  ^bb0(%x: f32, %r: f32, %u: f32, %c: f32, %out: f32):
    %0 = arith.mulf %x, %c : f32
    %1 = arith.addf %0, %r : f32
    %2 = arith.maximumf %1, %u : f32
    linalg.yield %2 : f32
  } -> tensor<4x8xf32>
  return %y : tensor<4x8xf32>
}

// Operations on tensors as such.
// CHECK-LABEL: graph "elementwise"
// CHECK-NEXT:  input v0: f16[4] "argument0"
// CHECK-NEXT:  input v1: f16[4] "argument1"
// CHECK-NEXT:  map "tanh" loops(d0:4) reads(v0[d0]) writes(v2[d0]: f16[4]) numeric(f16 f16 f16) flops 4 bytes 16
// CHECK-NEXT:  %0:f16 = input 0
// CHECK-NEXT:  %1:f16 = tanh %0
// CHECK-NEXT:  return %1
// CHECK-NEXT:  map "map" loops(d0:4) reads(v2[d0], v1[d0]) writes(v3[d0]: bool[4] "result0") numeric(f16 f16 bool) flops 8 bytes 20
// CHECK-NEXT:  %0:f16 = input 0
// CHECK-NEXT:  %1:f16 = input 1
// CHECK-NEXT:  %2:bool = less_equal %1, %0
// CHECK-NEXT:  %3:bool = not %2
// CHECK-NEXT:  return %3
// CHECK-NEXT:  output v3 "result0"
func.func @elementwise(%a: tensor<4xf16>, %b: tensor<4xf16>) -> tensor<4xi1> {
  %0 = math.tanh %a : tensor<4xf16>
  %1 = arith.cmpf ult, %0, %b : tensor<4xf16>
  return %1 : tensor<4xi1>
}

// Signless arithmetic on unsigned elements keeps their sign: a logical shift, an unsigned division and comparison.
// CHECK-LABEL: graph "unsigned"
// CHECK-NEXT:  input v0: u8[4] "argument0"
// CHECK-NEXT:  input v1: u8[4] "argument1"
// CHECK-NEXT:  map "map" loops(d0:4) reads(v0[d0], v1[d0]) writes(v2[d0]: u8[4] "result0", v3[d0]: i8[4] "result1") numeric(u8 u8 u8) flops 8 bytes 16
// CHECK-NEXT:  %0:u8 = input 0
// CHECK-NEXT:  %1:u8 = input 1
// CHECK-NEXT:  %2:u8 = divide %0, %1
// CHECK-NEXT:  %3:i8 = bitcast %0
// CHECK-NEXT:  %4:i8 = bitcast %1
// CHECK-NEXT:  %5:i8 = shift_right %3, %4
// CHECK-NEXT:  return %2, %5
// CHECK-NEXT:  output v2 "result0"
// CHECK-NEXT:  output v3 "result1"
func.func @unsigned(%a: tensor<4xui8>, %b: tensor<4xui8>) -> (tensor<4xui8>, tensor<4xi8>) {
  %e0 = tensor.empty() : tensor<4xui8>
  %e1 = tensor.empty() : tensor<4xi8>
  %y:2 = linalg.generic {
      indexing_maps = [affine_map<(i) -> (i)>, affine_map<(i) -> (i)>, affine_map<(i) -> (i)>, affine_map<(i) -> (i)>],
      iterator_types = ["parallel"]}
      ins(%a, %b : tensor<4xui8>, tensor<4xui8>) outs(%e0, %e1 : tensor<4xui8>, tensor<4xi8>) {
  ^bb0(%u: ui8, %v: ui8, %o0: ui8, %o1: i8):
    %s = qd.bitcast %u : ui8 -> i8
    %t = qd.bitcast %v : ui8 -> i8
    %q = arith.divui %s, %t : i8
    %qu = qd.bitcast %q : i8 -> ui8
    %h = arith.shrsi %s, %t : i8
    linalg.yield %qu, %h : ui8, i8
  } -> (tensor<4xui8>, tensor<4xi8>)
  return %y#0, %y#1 : tensor<4xui8>, tensor<4xi8>
}

// Conversions of bools, truncation to a bool (its lowest bit) and the index of a loop.
// CHECK-LABEL: graph "conversions"
// CHECK-NEXT:  input v0: i32[4] "argument0"
// CHECK-NEXT:  input v1: bool[4] "argument1"
// CHECK-NEXT:  map "convert" loops(d0:4) reads(v0[d0], v1[d0]) writes(v2[d0]: bool[4] "result0", v3[d0]: f32[4] "result1", v4[d0]: i64[4] "result2") numeric(i32 i32 bool) flops 4 bytes 72
// CHECK-NEXT:  %0:i32 = input 0
// CHECK-NEXT:  %1:bool = input 1
// CHECK-NEXT:  %2:i32 = constant 0x1
// CHECK-NEXT:  %3:i32 = and %0, %2
// CHECK-NEXT:  %4:bool = convert %3
// CHECK-NEXT:  %5:f32 = convert %1
// CHECK-NEXT:  %6:i64 = loop_index 0
// CHECK-NEXT:  return %4, %5, %6
// CHECK-NEXT:  output v2 "result0"
// CHECK-NEXT:  output v3 "result1"
// CHECK-NEXT:  output v4 "result2"
func.func @conversions(%a: tensor<4xi32>, %p: tensor<4xi1>) -> (tensor<4xi1>, tensor<4xf32>, tensor<4xi64>) {
  %e0 = tensor.empty() : tensor<4xi1>
  %e1 = tensor.empty() : tensor<4xf32>
  %e2 = tensor.empty() : tensor<4xi64>
  %y:3 = linalg.generic {
      indexing_maps = [affine_map<(i) -> (i)>, affine_map<(i) -> (i)>, affine_map<(i) -> (i)>, affine_map<(i) -> (i)>,
                       affine_map<(i) -> (i)>],
      iterator_types = ["parallel"]}
      ins(%a, %p : tensor<4xi32>, tensor<4xi1>) outs(%e0, %e1, %e2 : tensor<4xi1>, tensor<4xf32>, tensor<4xi64>) {
  ^bb0(%x: i32, %b: i1, %o0: i1, %o1: f32, %o2: i64):
    %bit = arith.trunci %x : i32 to i1
    %f = arith.uitofp %b : i1 to f32
    %i = linalg.index 0 : index
    %j = arith.index_cast %i : index to i64
    linalg.yield %bit, %f, %j : i1, f32, i64
  } -> (tensor<4xi1>, tensor<4xf32>, tensor<4xi64>)
  return %y#0, %y#1, %y#2 : tensor<4xi1>, tensor<4xf32>, tensor<4xi64>
}

// Division toward minus infinity.
// CHECK-LABEL: graph "floordiv"
// CHECK-NEXT:  input v0: i32[4] "argument0"
// CHECK-NEXT:  input v1: i32[4] "argument1"
// CHECK-NEXT:  map "map" loops(d0:4) reads(v0[d0], v1[d0]) writes(v2[d0]: i32[4] "result0") numeric(i32 i32 i32) flops 28 bytes 48
// CHECK-NEXT:  %0:i32 = input 0
// CHECK-NEXT:  %1:i32 = input 1
// CHECK-NEXT:  %2:i32 = divide %0, %1
// CHECK-NEXT:  %3:i32 = remainder %0, %1
// CHECK-NEXT:  %4:i32 = constant 0x0
// CHECK-NEXT:  %5:bool = not_equal %3, %4
// CHECK-NEXT:  %6:i32 = xor %0, %1
// CHECK-NEXT:  %7:bool = less %6, %4
// CHECK-NEXT:  %8:bool = and %5, %7
// CHECK-NEXT:  %9:i32 = convert %8
// CHECK-NEXT:  %10:i32 = subtract %2, %9
// CHECK-NEXT:  return %10
// CHECK-NEXT:  output v2 "result0"
func.func @floordiv(%a: tensor<4xi32>, %b: tensor<4xi32>) -> tensor<4xi32> {
  %y = arith.floordivsi %a, %b : tensor<4xi32>
  return %y : tensor<4xi32>
}

// Without a reduction the initial value is an operand.
// CHECK-LABEL: graph "accumulate"
// CHECK-NEXT:  input v0: f32[4] "argument0"
// CHECK-NEXT:  input v1: f32[4] "argument1"
// CHECK-NEXT:  input v2: f32[4] "argument2"
// CHECK-NEXT:  map "map" loops(d0:4) reads(v0[d0], v1[d0], v2[d0]) writes(v3[d0]: f32[4] "result0") numeric(f32 f32 f32) flops 8 bytes 64
// CHECK-NEXT:  %0:f32 = input 0
// CHECK-NEXT:  %1:f32 = input 1
// CHECK-NEXT:  %2:f32 = input 2
// CHECK-NEXT:  %3:f32 = multiply %0, %1
// CHECK-NEXT:  %4:f32 = add %3, %2
// CHECK-NEXT:  return %4
// CHECK-NEXT:  output v3 "result0"
func.func @accumulate(%a: tensor<4xf32>, %b: tensor<4xf32>, %c: tensor<4xf32>) -> tensor<4xf32> {
  %y = linalg.generic {
      indexing_maps = [affine_map<(i) -> (i)>, affine_map<(i) -> (i)>, affine_map<(i) -> (i)>],
      iterator_types = ["parallel"]}
      ins(%a, %b : tensor<4xf32>, tensor<4xf32>) outs(%c : tensor<4xf32>) {
  ^bb0(%x: f32, %z: f32, %out: f32):
    %p = arith.mulf %x, %z : f32
    %s = arith.addf %p, %out : f32
    linalg.yield %s : f32
  } -> tensor<4xf32>
  return %y : tensor<4xf32>
}

// A fill that is a result is a kernel; a parallel loop of extent 1 that indexes no result is no loop.
// CHECK-LABEL: graph "fill"
// CHECK-NEXT:  input v0: u8[1,4] "argument0"
// CHECK-NEXT:  move "copy" loops(d0:4) reads(v0[0, d0]) writes(v1[d0]: u8[4] "result1") numeric(u8 u8 u8) flops 0 bytes 8
// CHECK-NEXT:  map "fill" loops(d0:2) reads() writes(v2[d0]: u8[2] "result0") numeric(u8 u8 u8) flops 0 bytes 2
// CHECK-NEXT:  %0:u8 = constant 0xff
// CHECK-NEXT:  return %0
// CHECK-NEXT:  output v2 "result0"
// CHECK-NEXT:  output v1 "result1"
func.func @fill(%a: tensor<1x4xui8>) -> (tensor<2xui8>, tensor<4xui8>) {
  %c = arith.constant -1 : i8
  %u = qd.bitcast %c : i8 -> ui8
  %e = tensor.empty() : tensor<2xui8>
  %y = linalg.fill ins(%u : ui8) outs(%e : tensor<2xui8>) -> tensor<2xui8>
  %e4 = tensor.empty() : tensor<4xui8>
  %z = linalg.generic {indexing_maps = [affine_map<(i, j) -> (i, j)>, affine_map<(i, j) -> (j)>],
      iterator_types = ["parallel", "parallel"]} ins(%a : tensor<1x4xui8>) outs(%e4 : tensor<4xui8>) {
  ^bb0(%x: ui8, %out: ui8):
    linalg.yield %x : ui8
  } -> tensor<4xui8>
  return %y, %z : tensor<2xui8>, tensor<4xui8>
}

// As a signed number a bool is 0 or -1: its extension is negated and its order is the other way round.
// CHECK-LABEL: graph "signed_bool"
// CHECK: %0:bool = input 0
// CHECK-NEXT: %1:i32 = convert %0
// CHECK-NEXT: %2:i32 = negate %1
// CHECK-NEXT: return %2
// CHECK: %0:bool = input 0
// CHECK-NEXT: %1:bool = input 1
// CHECK-NEXT: %2:bool = less %1, %0
// CHECK-NEXT: return %2
func.func @signed_bool(%a: tensor<4xi1>, %b: tensor<4xi1>) -> (tensor<4xi32>, tensor<4xi1>) {
  %0 = arith.extsi %a : tensor<4xi1> to tensor<4xi32>
  %1 = arith.cmpi slt, %a, %b : tensor<4xi1>
  return %0, %1 : tensor<4xi32>, tensor<4xi1>
}

// Every comparison of floats, NaN included: ordered ones are false, unordered ones true.
// CHECK-LABEL: graph "comparisons"
// CHECK: map "less" {{.*}} "result0"
// CHECK: %2:bool = less %1, %0
// CHECK: map "map" {{.*}} "result1"
// CHECK: %2:bool = less %0, %1
// CHECK-NEXT: %3:bool = less %1, %0
// CHECK-NEXT: %4:bool = or %2, %3
// CHECK-NEXT: return %4
// CHECK: map "is_nan" {{.*}} "result2"
// CHECK: map "not_equal" {{.*}} "result3"
// CHECK: map "map" {{.*}} "result4"
// CHECK: %2:bool = less %0, %1
// CHECK-NEXT: %3:bool = not %2
func.func @comparisons(%a: tensor<4xf32>, %b: tensor<4xf32>) -> (tensor<4xi1>, tensor<4xi1>, tensor<4xi1>, tensor<4xi1>, tensor<4xi1>) {
  %0 = arith.cmpf ogt, %a, %b : tensor<4xf32>
  %1 = arith.cmpf one, %a, %b : tensor<4xf32>
  %2 = arith.cmpf uno, %a, %a : tensor<4xf32>
  %3 = arith.cmpf une, %a, %b : tensor<4xf32>
  %4 = arith.cmpf uge, %a, %b : tensor<4xf32>
  return %0, %1, %2, %3, %4 : tensor<4xi1>, tensor<4xi1>, tensor<4xi1>, tensor<4xi1>, tensor<4xi1>
}
