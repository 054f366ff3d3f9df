// Decomposed softmax, layer normalisation and GELU get their names back (attention and more: test/composites_test.py).
// RUN: quadrille-opt --qd-print-kernels=recognize-composites=true %s -o /dev/null | FileCheck %s

#xyz = affine_map<(i, j) -> (i, j)>
#row = affine_map<(i, j) -> (i)>
#last = affine_map<(i, j) -> (j)>
#kept = affine_map<(i, j) -> (i, 0)>
#scalar = affine_map<(i, j) -> ()>

// The maximum is kept without the axis, the sum with an extent of 1, as exporters with and without keepdims do.
// CHECK-LABEL: graph "softmax"
// CHECK-NEXT: input v0: f32[4,8] "argument0"
// CHECK-NEXT: composite "softmax" reads(v0) writes(v1: f32[4,8] "result0") {axis = 1} flops 160 bytes 256 nodes(ReduceMax "max", Sub "sub", Exp "exp", ReduceSum "sum", Div "div")
// CHECK: output v1 "result0"
func.func @softmax(%x: tensor<4x8xf32>) -> tensor<4x8xf32> {
  %low = arith.constant dense<0xFF800000> : tensor<4xf32>
  %zero = arith.constant dense<0.0> : tensor<4x1xf32>
  %e = tensor.empty() : tensor<4x8xf32>
  %max = linalg.generic {indexing_maps = [#xyz, #row], iterator_types = ["parallel", "reduction"]}
      ins(%x : tensor<4x8xf32>) outs(%low : tensor<4xf32>) {
  ^bb0(%a: f32, %o: f32):
    %r = arith.maximumf %a, %o : f32
    linalg.yield %r : f32
  } -> tensor<4xf32> loc("max"("ReduceMax"))
  %sub = linalg.generic {indexing_maps = [#xyz, #row, #xyz], iterator_types = ["parallel", "parallel"]}
      ins(%x, %max : tensor<4x8xf32>, tensor<4xf32>) outs(%e : tensor<4x8xf32>) {
  ^bb0(%a: f32, %b: f32, %o: f32):
    %r = arith.subf %a, %b : f32
    linalg.yield %r : f32
  } -> tensor<4x8xf32> loc("sub"("Sub"))
  %exp = math.exp %sub : tensor<4x8xf32> loc("exp"("Exp"))
  %sum = linalg.generic {indexing_maps = [#xyz, #kept], iterator_types = ["parallel", "reduction"]}
      ins(%exp : tensor<4x8xf32>) outs(%zero : tensor<4x1xf32>) {
  ^bb0(%a: f32, %o: f32):
    %r = arith.addf %a, %o : f32
    linalg.yield %r : f32
  } -> tensor<4x1xf32> loc("sum"("ReduceSum"))
  %y = linalg.generic {indexing_maps = [#xyz, #kept, #xyz], iterator_types = ["parallel", "parallel"]}
      ins(%exp, %sum : tensor<4x8xf32>, tensor<4x1xf32>) outs(%e : tensor<4x8xf32>) {
  ^bb0(%a: f32, %b: f32, %o: f32):
    %r = arith.divf %a, %b : f32
    linalg.yield %r : f32
  } -> tensor<4x8xf32> loc("div"("Div"))
  return %y : tensor<4x8xf32>
}

// Somebody else uses the exponentials: nothing is hidden in a composite.
// CHECK-LABEL: graph "shared"
// CHECK-NOT: composite
// CHECK: output
func.func @shared(%x: tensor<4x8xf32>) -> (tensor<4x8xf32>, tensor<4x8xf32>) {
  %low = arith.constant dense<0xFF800000> : tensor<4xf32>
  %zero = arith.constant dense<0.0> : tensor<4xf32>
  %e = tensor.empty() : tensor<4x8xf32>
  %max = linalg.reduce { arith.maximumf } ins(%x : tensor<4x8xf32>) outs(%low : tensor<4xf32>) dimensions = [1]
  %sub = linalg.generic {indexing_maps = [#xyz, #row, #xyz], iterator_types = ["parallel", "parallel"]}
      ins(%x, %max : tensor<4x8xf32>, tensor<4xf32>) outs(%e : tensor<4x8xf32>) {
  ^bb0(%a: f32, %b: f32, %o: f32):
    %r = arith.subf %a, %b : f32
    linalg.yield %r : f32
  } -> tensor<4x8xf32>
  %exp = math.exp %sub : tensor<4x8xf32>
  %sum = linalg.reduce { arith.addf } ins(%exp : tensor<4x8xf32>) outs(%zero : tensor<4xf32>) dimensions = [1]
  %y = linalg.generic {indexing_maps = [#xyz, #row, #xyz], iterator_types = ["parallel", "parallel"]}
      ins(%exp, %sum : tensor<4x8xf32>, tensor<4xf32>) outs(%e : tensor<4x8xf32>) {
  ^bb0(%a: f32, %b: f32, %o: f32):
    %r = arith.divf %a, %b : f32
    linalg.yield %r : f32
  } -> tensor<4x8xf32>
  return %y, %exp : tensor<4x8xf32>, tensor<4x8xf32>
}

// As PyTorch writes it: x * 0.5 * (1 + erf(x / 1.4142135)).
// CHECK-LABEL: graph "gelu"
// CHECK: composite "gelu" reads(v0) writes(v1: f32[4] "result0") {approximate = "none"}
func.func @gelu(%x: tensor<4xf32>) -> tensor<4xf32> {
  %root = arith.constant dense<1.41421354> : tensor<4xf32>
  %one = arith.constant dense<1.0> : tensor<4xf32>
  %half = arith.constant dense<0.5> : tensor<4xf32>
  %0 = arith.divf %x, %root : tensor<4xf32>
  %1 = math.erf %0 : tensor<4xf32>
  %2 = arith.addf %1, %one : tensor<4xf32>
  %3 = arith.mulf %x, %2 : tensor<4xf32>
  %4 = arith.mulf %3, %half : tensor<4xf32>
  return %4 : tensor<4xf32>
}

// CHECK-LABEL: graph "gelu_tanh"
// CHECK: map "add"
// CHECK: composite "gelu" reads(v2) writes(v{{[0-9]+}}: f32[4] "result0") {approximate = "tanh"}
func.func @gelu_tanh(%a: tensor<4xf32>, %b: tensor<4xf32>) -> tensor<4xf32> {
  %x = arith.addf %a, %b : tensor<4xf32>
  %three = arith.constant dense<3.0> : tensor<4xf32>
  %c = arith.constant dense<0.044715> : tensor<4xf32>
  %s = arith.constant dense<0.797884583> : tensor<4xf32>
  %one = arith.constant dense<1.0> : tensor<4xf32>
  %half = arith.constant dense<0.5> : tensor<4xf32>
  %0 = math.powf %x, %three : tensor<4xf32>
  %1 = arith.mulf %0, %c : tensor<4xf32>
  %2 = arith.addf %x, %1 : tensor<4xf32>
  %3 = arith.mulf %2, %s : tensor<4xf32>
  %4 = math.tanh %3 : tensor<4xf32>
  %5 = arith.addf %4, %one : tensor<4xf32>
  %6 = arith.mulf %x, %half : tensor<4xf32>
  %7 = arith.mulf %6, %5 : tensor<4xf32>
  return %7 : tensor<4xf32>
}

// A wrong constant is no GELU.
// CHECK-LABEL: graph "no_gelu"
// CHECK-NOT: composite
// CHECK: output
func.func @no_gelu(%x: tensor<4xf32>) -> tensor<4xf32> {
  %root = arith.constant dense<1.5> : tensor<4xf32>
  %one = arith.constant dense<1.0> : tensor<4xf32>
  %half = arith.constant dense<0.5> : tensor<4xf32>
  %0 = arith.divf %x, %root : tensor<4xf32>
  %1 = math.erf %0 : tensor<4xf32>
  %2 = arith.addf %1, %one : tensor<4xf32>
  %3 = arith.mulf %x, %2 : tensor<4xf32>
  %4 = arith.mulf %3, %half : tensor<4xf32>
  return %4 : tensor<4xf32>
}

// CHECK-LABEL: graph "layer_normalization"
// CHECK: composite "layer_normalization" reads(v0, v1, v2) writes(v3: f32[4,8] "result0") {axis = 1, epsilon = 1.000000e-03}
func.func @layer_normalization(%x: tensor<4x8xf32>, %scale: tensor<8xf32>, %shift: tensor<8xf32>) -> tensor<4x8xf32> {
  %zero = arith.constant dense<0.0> : tensor<4xf32>
  %eight = arith.constant dense<8.0> : tensor<4xf32>
  %epsilon = arith.constant dense<0.001> : tensor<4x1xf32>
  %two = arith.constant dense<2.0> : tensor<4x8xf32>
  %e = tensor.empty() : tensor<4x8xf32>
  %sum = linalg.reduce { arith.addf } ins(%x : tensor<4x8xf32>) outs(%zero : tensor<4xf32>) dimensions = [1]
  %mean = arith.divf %sum, %eight : tensor<4xf32>
  %d = linalg.generic {indexing_maps = [#xyz, #row, #xyz], iterator_types = ["parallel", "parallel"]}
      ins(%x, %mean : tensor<4x8xf32>, tensor<4xf32>) outs(%e : tensor<4x8xf32>) {
  ^bb0(%a: f32, %b: f32, %o: f32):
    %r = arith.subf %a, %b : f32
    linalg.yield %r : f32
  } -> tensor<4x8xf32>
  %square = math.powf %d, %two : tensor<4x8xf32>
  %total = linalg.reduce { arith.addf } ins(%square : tensor<4x8xf32>) outs(%zero : tensor<4xf32>) dimensions = [1]
  %variance = arith.divf %total, %eight : tensor<4xf32>
  %kept = qd.reshape %variance : tensor<4xf32> -> tensor<4x1xf32>
  %sure = arith.addf %kept, %epsilon : tensor<4x1xf32>
  %deviation = math.sqrt %sure : tensor<4x1xf32>
  %normal = linalg.generic {indexing_maps = [#xyz, #kept, #xyz], iterator_types = ["parallel", "parallel"]}
      ins(%d, %deviation : tensor<4x8xf32>, tensor<4x1xf32>) outs(%e : tensor<4x8xf32>) {
  ^bb0(%a: f32, %b: f32, %o: f32):
    %r = arith.divf %a, %b : f32
    linalg.yield %r : f32
  } -> tensor<4x8xf32>
  %scaled = linalg.generic {indexing_maps = [#xyz, #last, #xyz], iterator_types = ["parallel", "parallel"]}
      ins(%normal, %scale : tensor<4x8xf32>, tensor<8xf32>) outs(%e : tensor<4x8xf32>) {
  ^bb0(%a: f32, %b: f32, %o: f32):
    %r = arith.mulf %a, %b : f32
    linalg.yield %r : f32
  } -> tensor<4x8xf32>
  %y = linalg.generic {indexing_maps = [#xyz, #last, #xyz], iterator_types = ["parallel", "parallel"]}
      ins(%scaled, %shift : tensor<4x8xf32>, tensor<8xf32>) outs(%e : tensor<4x8xf32>) {
  ^bb0(%a: f32, %b: f32, %o: f32):
    %r = arith.addf %b, %a : f32
    linalg.yield %r : f32
  } -> tensor<4x8xf32>
  return %y : tensor<4x8xf32>
}
