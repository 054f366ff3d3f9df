// Every rule of the dialect's verifiers, by an operation that breaks it.
// RUN: quadrille-opt %s -split-input-file -verify-diagnostics

func.func @bitcast_width(%a: ui8) -> i16 {
  // expected-error @below {{'qd.bitcast' op casts 8 bits to 16}}
  %0 = qd.bitcast %a : ui8 -> i16
  return %0 : i16
}

// -----

func.func @bitcast_type(%a: index) -> i64 {
  // expected-error @below {{must be element type of a model, but got 'index'}}
  %0 = qd.bitcast %a : index -> i64
  return %0 : i64
}

// -----

func.func @dynamic(%a: tensor<?xf32>) -> tensor<4xf32> {
  // expected-error @below {{must be statically shaped tensor of an element type of a model}}
  %0 = qd.reshape %a : tensor<?xf32> -> tensor<4xf32>
  return %0 : tensor<4xf32>
}

// -----

func.func @signed(%a: tensor<4xsi8>) -> tensor<4xsi8> {
  // expected-error @below {{must be statically shaped tensor of an element type of a model}}
  %0 = qd.reshape %a : tensor<4xsi8> -> tensor<4xsi8>
  return %0 : tensor<4xsi8>
}

// -----

func.func @weight_file() -> tensor<4xf32> {
  // expected-error @below {{a file comes with an offset and a size}}
  %0 = qd.weight "w" {file = "m.onnx"} : tensor<4xf32>
  return %0 : tensor<4xf32>
}

// -----

func.func @weight_offset() -> tensor<4xf32> {
  // expected-error @below {{negative offset or size}}
  %0 = qd.weight "w" from "m.onnx" at -4, 16 bytes : tensor<4xf32>
  return %0 : tensor<4xf32>
}

// -----

func.func @weight_type() -> tensor<4xf32> {
  // expected-error @below {{data is 'tensor<2xi8>', the result 'tensor<4xf32>'}}
  %0 = qd.weight "w" data dense_resource<here> : tensor<2xi8> : tensor<4xf32>
  return %0 : tensor<4xf32>
}

{-#
  dialect_resources: { builtin: { here: "0x010000000102" } }
#-}

// -----

func.func @weight_bytes() -> tensor<3xi8> {
  // expected-error @below {{data has 2 bytes, 'tensor<3xi8>' takes 3}}
  %0 = qd.weight "w" data dense_resource<here> : tensor<3xi8> : tensor<3xi8>
  return %0 : tensor<3xi8>
}

{-#
  dialect_resources: { builtin: { here: "0x010000000102" } }
#-}

// -----

func.func @reshape_count(%a: tensor<2x3xf32>) -> tensor<5xf32> {
  // expected-error @below {{elements of 'tensor<2x3xf32>' do not make 'tensor<5xf32>'}}
  %0 = qd.reshape %a : tensor<2x3xf32> -> tensor<5xf32>
  return %0 : tensor<5xf32>
}

// -----

func.func @reshape_type(%a: tensor<2x3xf32>) -> tensor<6xi32> {
  // expected-error @below {{elements of 'tensor<2x3xf32>' do not make 'tensor<6xi32>'}}
  %0 = qd.reshape %a : tensor<2x3xf32> -> tensor<6xi32>
  return %0 : tensor<6xi32>
}

// -----

func.func @gather_axis(%a: tensor<4x5xf32>, %i: tensor<3xi64>) -> tensor<4x3xf32> {
  // expected-error @below {{axis 2 is not a dimension of 'tensor<4x5xf32>'}}
  %0 = qd.gather %a[%i] axis 2 : tensor<4x5xf32>, tensor<3xi64> -> tensor<4x3xf32>
  return %0 : tensor<4x3xf32>
}

// -----

func.func @gather_result(%a: tensor<4x5xf32>, %i: tensor<3xi64>) -> tensor<4x4xf32> {
  // expected-error @below {{result is 'tensor<4x4xf32>' but must be 'tensor<4x3xf32>'}}
  %0 = qd.gather %a[%i] axis 1 : tensor<4x5xf32>, tensor<3xi64> -> tensor<4x4xf32>
  return %0 : tensor<4x4xf32>
}

// -----

func.func @gather_indices(%a: tensor<4x5xf32>, %i: tensor<3xi8>) -> tensor<4x3xf32> {
  // expected-error @below {{must be static tensor of i32 or i64 indices}}
  %0 = qd.gather %a[%i] axis 1 : tensor<4x5xf32>, tensor<3xi8> -> tensor<4x3xf32>
  return %0 : tensor<4x3xf32>
}

// -----

func.func @gather_elements_rank(%a: tensor<4x5xf32>, %i: tensor<3xi64>) -> tensor<3xf32> {
  // expected-error @below {{have another rank than the data}}
  %0 = qd.gather_elements %a[%i] axis 0 : tensor<4x5xf32>, tensor<3xi64> -> tensor<3xf32>
  return %0 : tensor<3xf32>
}

// -----

func.func @gather_elements_extent(%a: tensor<4x5xf32>, %i: tensor<9x6xi64>) -> tensor<9x6xf32> {
  // expected-error @below {{exceed the data 'tensor<4x5xf32>' in dimension 1}}
  %0 = qd.gather_elements %a[%i] axis 0 : tensor<4x5xf32>, tensor<9x6xi64> -> tensor<9x6xf32>
  return %0 : tensor<9x6xf32>
}

// -----

func.func @gather_nd_batch(%a: tensor<4x5xf32>, %i: tensor<3x1xi64>) -> tensor<3xf32> {
  // expected-error @below {{batch dimensions of the data 'tensor<4x5xf32>' and the indices 'tensor<3x1xi64>' differ}}
  %0 = qd.gather_nd %a[%i] batch_dims 1 : tensor<4x5xf32>, tensor<3x1xi64> -> tensor<3xf32>
  return %0 : tensor<3xf32>
}

// -----

func.func @gather_nd_batch_rank(%a: tensor<4x5xf32>, %i: tensor<4x1xi64>) -> tensor<4xf32> {
  // expected-error @below {{batch_dims 2 does not fit}}
  %0 = qd.gather_nd %a[%i] batch_dims 2 : tensor<4x5xf32>, tensor<4x1xi64> -> tensor<4xf32>
  return %0 : tensor<4xf32>
}

// -----

func.func @gather_nd_depth(%a: tensor<4x5xf32>, %i: tensor<2x3xi64>) -> tensor<2xf32> {
  // expected-error @below {{index vectors of 3 elements do not fit the data}}
  %0 = qd.gather_nd %a[%i] batch_dims 0 : tensor<4x5xf32>, tensor<2x3xi64> -> tensor<2xf32>
  return %0 : tensor<2xf32>
}

// -----

func.func @scatter_elements_updates(%a: tensor<4x5xf32>, %i: tensor<2x5xi64>, %u: tensor<2x4xf32>) -> tensor<4x5xf32> {
  // expected-error @below {{updates is 'tensor<2x4xf32>' but must be 'tensor<2x5xf32>'}}
  %0 = qd.scatter_elements %u into %a[%i] axis 0 none : tensor<2x4xf32>, tensor<4x5xf32>, tensor<2x5xi64> -> tensor<4x5xf32>
  return %0 : tensor<4x5xf32>
}

// -----

func.func @scatter_elements_result(%a: tensor<4x5xf32>, %i: tensor<2x5xi64>, %u: tensor<2x5xf32>) -> tensor<2x5xf32> {
  // expected-error @below {{result is 'tensor<2x5xf32>' but must be 'tensor<4x5xf32>'}}
  %0 = qd.scatter_elements %u into %a[%i] axis 0 none : tensor<2x5xf32>, tensor<4x5xf32>, tensor<2x5xi64> -> tensor<2x5xf32>
  return %0 : tensor<2x5xf32>
}

// -----

func.func @scatter_nd_depth(%a: tensor<4xf32>, %i: tensor<2x2xi64>, %u: tensor<2xf32>) -> tensor<4xf32> {
  // expected-error @below {{index vectors of 2 elements do not fit the data 'tensor<4xf32>'}}
  %0 = qd.scatter_nd %u into %a[%i] none : tensor<2xf32>, tensor<4xf32>, tensor<2x2xi64> -> tensor<4xf32>
  return %0 : tensor<4xf32>
}

// -----

func.func @scatter_nd_scalar(%a: tensor<4xf32>, %i: tensor<i64>, %u: tensor<f32>) -> tensor<4xf32> {
  // expected-error @below {{indices have no dimension for index vectors}}
  %0 = qd.scatter_nd %u into %a[%i] none : tensor<f32>, tensor<4xf32>, tensor<i64> -> tensor<4xf32>
  return %0 : tensor<4xf32>
}

// -----

func.func @scatter_nd_updates(%a: tensor<4x5xf32>, %i: tensor<2x1xi64>, %u: tensor<2x4xf32>) -> tensor<4x5xf32> {
  // expected-error @below {{updates is 'tensor<2x4xf32>' but must be 'tensor<2x5xf32>'}}
  %0 = qd.scatter_nd %u into %a[%i] none : tensor<2x4xf32>, tensor<4x5xf32>, tensor<2x1xi64> -> tensor<4x5xf32>
  return %0 : tensor<4x5xf32>
}

// -----

func.func @top_k_count(%a: tensor<4xf32>) -> (tensor<5xf32>, tensor<5xi64>) {
  // expected-error @below {{takes 5 of 4 elements}}
  %0, %1 = qd.top_k %a axis 0 largest true sorted true : tensor<4xf32> -> tensor<5xf32>, tensor<5xi64>
  return %0, %1 : tensor<5xf32>, tensor<5xi64>
}

// -----

func.func @top_k_indices(%a: tensor<4xf32>) -> (tensor<2xf32>, tensor<3xi64>) {
  // expected-error @below {{indices is 'tensor<3xi64>' but must be 'tensor<2xi64>'}}
  %0, %1 = qd.top_k %a axis 0 largest true sorted true : tensor<4xf32> -> tensor<2xf32>, tensor<3xi64>
  return %0, %1 : tensor<2xf32>, tensor<3xi64>
}

// -----

func.func @sort_values(%a: tensor<4xf32>) -> (tensor<3xf32>, tensor<3xi64>) {
  // expected-error @below {{values is 'tensor<3xf32>' but must be 'tensor<4xf32>'}}
  %0, %1 = qd.sort %a axis 0 descending false : tensor<4xf32> -> tensor<3xf32>, tensor<3xi64>
  return %0, %1 : tensor<3xf32>, tensor<3xi64>
}

// -----

func.func @arg_reduce_result(%a: tensor<4x5xf32>) -> tensor<4x1xi64> {
  // expected-error @below {{result is 'tensor<4x1xi64>' but must be 'tensor<4xi64>'}}
  %0 = qd.arg_reduce maximum %a axis 1 select_last false : tensor<4x5xf32> -> tensor<4x1xi64>
  return %0 : tensor<4x1xi64>
}

// -----

func.func @arg_reduce_empty(%a: tensor<4x0xf32>) -> tensor<4xi64> {
  // expected-error @below {{no element along axis 1}}
  %0 = qd.arg_reduce maximum %a axis 1 select_last false : tensor<4x0xf32> -> tensor<4xi64>
  return %0 : tensor<4xi64>
}

// -----

func.func @cumulative_result(%a: tensor<4xf32>) -> tensor<4xf64> {
  // expected-error @below {{result is 'tensor<4xf64>' but must be 'tensor<4xf32>'}}
  %0 = qd.cumulative sum %a axis 0 exclusive false reverse false : tensor<4xf32> -> tensor<4xf64>
  return %0 : tensor<4xf64>
}

// -----

func.func @random_seed() -> tensor<4xui32> {
  // expected-error @below {{takes a seed or a seed_value, and not both}}
  %0 = qd.random_bits -> tensor<4xui32>
  return %0 : tensor<4xui32>
}

// -----

func.func @random_seed_rank(%s: tensor<1xi64>) -> tensor<4xui32> {
  // expected-error @below {{the seed is not a scalar}}
  %0 = qd.random_bits seed %s : tensor<1xi64> -> tensor<4xui32>
  return %0 : tensor<4xui32>
}

// -----

func.func @random_offset() -> tensor<4xui32> {
  // expected-error @below {{negative offset}}
  %0 = qd.random_bits {seed_value = 1 : i64, offset = -1 : i64} -> tensor<4xui32>
  return %0 : tensor<4xui32>
}

// -----

func.func @composite_arguments(%x: tensor<4xf32>) -> tensor<4xf32> {
  // expected-error @below {{the body takes 0 arguments, not 1}}
  %0 = qd.composite "c"(%x) : (tensor<4xf32>) -> tensor<4xf32> {
    %w = qd.weight "w" : tensor<4xf32>
    qd.yield %w : tensor<4xf32>
  }
  return %0 : tensor<4xf32>
}

// -----

func.func @composite_argument_type(%x: tensor<4xf32>) -> tensor<4xf32> {
  // expected-error @below {{body argument 0 is 'tensor<5xf32>' but must be 'tensor<4xf32>'}}
  %0 = qd.composite "c"(%x) : (tensor<4xf32>) -> tensor<4xf32> {
  ^bb0(%a: tensor<5xf32>):
    %w = qd.weight "w" : tensor<4xf32>
    qd.yield %w : tensor<4xf32>
  }
  return %0 : tensor<4xf32>
}

// -----

func.func @composite_yield_count(%x: tensor<4xf32>) -> tensor<4xf32> {
  // expected-error @below {{the body yields 2 values, not 1}}
  %0 = qd.composite "c"(%x) : (tensor<4xf32>) -> tensor<4xf32> {
  ^bb0(%a: tensor<4xf32>):
    qd.yield %a, %a : tensor<4xf32>, tensor<4xf32>
  }
  return %0 : tensor<4xf32>
}

// -----

func.func @composite_yield_type(%x: tensor<4xf32>) -> tensor<5xf32> {
  // expected-error @below {{yielded value 0 is 'tensor<4xf32>' but must be 'tensor<5xf32>'}}
  %0 = qd.composite "c"(%x) : (tensor<4xf32>) -> tensor<5xf32> {
  ^bb0(%a: tensor<4xf32>):
    qd.yield %a : tensor<4xf32>
  }
  return %0 : tensor<5xf32>
}

// -----

func.func @composite_capture(%x: tensor<4xf32>) -> tensor<4xf32> {
  // expected-note @below {{required by region isolation constraints}}
  %0 = qd.composite "c"(%x) : (tensor<4xf32>) -> tensor<4xf32> {
  ^bb0(%a: tensor<4xf32>):
    // expected-error @below {{using value defined outside the region}}
    qd.yield %x : tensor<4xf32>
  }
  return %0 : tensor<4xf32>
}

// -----

func.func @scan_trip_count(%h: tensor<4xf32>) -> tensor<4xf32> {
  // expected-error @below {{negative trip count}}
  %0 = qd.scan -1 states(%h : tensor<4xf32>) sequences() captures() -> tensor<4xf32> {
  ^bb0(%a: tensor<4xf32>):
    qd.yield %a : tensor<4xf32>
  }
  return %0 : tensor<4xf32>
}

// -----

func.func @scan_results(%h: tensor<4xf32>) -> tensor<4xf32> {
  // expected-error @below {{has 2 states but 1 results}}
  %0 = qd.scan 3 states(%h, %h : tensor<4xf32>, tensor<4xf32>) sequences() captures() -> tensor<4xf32> {
  ^bb0(%a: tensor<4xf32>, %b: tensor<4xf32>):
    qd.yield %a : tensor<4xf32>
  }
  return %0 : tensor<4xf32>
}

// -----

func.func @scan_input_axes(%h: tensor<4xf32>, %x: tensor<3x4xf32>) -> tensor<4xf32> {
  // expected-error @below {{has 1 sequences, 0 input_axes and 0 input_reversed}}
  %0 = qd.scan 3 states(%h : tensor<4xf32>) sequences(%x : tensor<3x4xf32>) captures() -> tensor<4xf32> {
  ^bb0(%a: tensor<4xf32>, %b: tensor<4xf32>):
    qd.yield %b : tensor<4xf32>
  }
  return %0 : tensor<4xf32>
}

// -----

func.func @scan_output_axes(%h: tensor<4xf32>) -> (tensor<4xf32>, tensor<3x4xf32>) {
  // expected-error @below {{has 1 stacked outputs, 0 output_axes and 0 output_reversed}}
  %0, %1 = qd.scan 3 states(%h : tensor<4xf32>) sequences() captures() -> tensor<4xf32>, tensor<3x4xf32> {
  ^bb0(%a: tensor<4xf32>):
    qd.yield %a, %a : tensor<4xf32>, tensor<4xf32>
  }
  return %0, %1 : tensor<4xf32>, tensor<3x4xf32>
}

// -----

func.func @scan_slices(%h: tensor<4xf32>, %x: tensor<5x4xf32>) -> tensor<4xf32> {
  // expected-error @below {{sequence 0 has 5 slices for 3 iterations}}
  %0 = qd.scan 3 states(%h : tensor<4xf32>) sequences(%x : tensor<5x4xf32>) captures()
      {input_axes = array<i64: 0>, input_reversed = array<i1: false>} -> tensor<4xf32> {
  ^bb0(%a: tensor<4xf32>, %b: tensor<4xf32>):
    qd.yield %b : tensor<4xf32>
  }
  return %0 : tensor<4xf32>
}

// -----

func.func @scan_axis(%h: tensor<4xf32>, %x: tensor<3x4xf32>) -> tensor<4xf32> {
  // expected-error @below {{axis 2 is not a dimension of 'tensor<3x4xf32>'}}
  %0 = qd.scan 3 states(%h : tensor<4xf32>) sequences(%x : tensor<3x4xf32>) captures()
      {input_axes = array<i64: 2>, input_reversed = array<i1: false>} -> tensor<4xf32> {
  ^bb0(%a: tensor<4xf32>, %b: tensor<4xf32>):
    qd.yield %b : tensor<4xf32>
  }
  return %0 : tensor<4xf32>
}

// -----

func.func @scan_state_type(%h: tensor<4xf32>) -> tensor<5xf32> {
  // expected-error @below {{final state 0 is 'tensor<5xf32>' but must be 'tensor<4xf32>'}}
  %0 = qd.scan 3 states(%h : tensor<4xf32>) sequences() captures() -> tensor<5xf32> {
  ^bb0(%a: tensor<4xf32>):
    qd.yield %a : tensor<4xf32>
  }
  return %0 : tensor<5xf32>
}

// -----

func.func @scan_argument_type(%h: tensor<4xf32>, %x: tensor<3x4xf32>) -> tensor<4xf32> {
  // expected-error @below {{body argument 1 is 'tensor<3x4xf32>' but must be 'tensor<4xf32>'}}
  %0 = qd.scan 3 states(%h : tensor<4xf32>) sequences(%x : tensor<3x4xf32>) captures()
      {input_axes = array<i64: 0>, input_reversed = array<i1: false>} -> tensor<4xf32> {
  ^bb0(%a: tensor<4xf32>, %b: tensor<3x4xf32>):
    qd.yield %a : tensor<4xf32>
  }
  return %0 : tensor<4xf32>
}

// -----

func.func @yield_parent(%x: tensor<4xf32>) {
  // expected-error @below {{expects parent op to be one of 'qd.composite, qd.scan'}}
  qd.yield %x : tensor<4xf32>
}

// -----

func.func @numeric(%x: tensor<4xf32>) -> tensor<4xf32> {
  // expected-error @below {{attribute 'qd.numeric' is not a #qd.numeric}}
  %0 = math.exp %x {qd.numeric = "f16"} : tensor<4xf32>
  return %0 : tensor<4xf32>
}

// -----

func.func @numeric_type(%x: tensor<4xf32>) -> tensor<4xf32> {
  // expected-error @below {{'f17' is no element type}}
  // expected-error @below {{failed to parse}}
  %0 = math.exp %x {qd.numeric = #qd.numeric<storage = f17, multiply = f32, accumulate = f32, rounding = nearest_even>} : tensor<4xf32>
  return %0 : tensor<4xf32>
}

// -----

func.func @operation(%x: tensor<4xf32>) -> tensor<4xf32> {
  // expected-error @below {{attribute 'qd.operation' is not a string}}
  %0 = math.exp %x {qd.operation = 1 : i64} : tensor<4xf32>
  return %0 : tensor<4xf32>
}

// -----

// expected-error @below {{attribute 'qd.name' is not a string}}
func.func @name(%x: tensor<4xf32> {qd.name = 1 : i64}) {
  return
}
