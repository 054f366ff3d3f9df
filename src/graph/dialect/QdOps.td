#ifndef QUADRILLE_QD_OPS_TD
#define QUADRILLE_QD_OPS_TD

include "graph/dialect/QdAttributes.td"
include "mlir/Interfaces/ControlFlowInterfaces.td"
include "mlir/Interfaces/SideEffectInterfaces.td"

class Qd_Op<string mnemonic, list<Trait> traits = []> : Op<Qd_Dialect, mnemonic, traits>;

def Qd_Tensor : Type<
    And<[IsRankedTensorTypePred, HasStaticShapePred,
         CPred<"::quadrille::qd::elementTypeOf(::llvm::cast<::mlir::ShapedType>($_self).getElementType()).has_value()">]>,
    "statically shaped tensor of an element type of a model", "::mlir::RankedTensorType">;

class Qd_TensorOf<string test, string summary> : Type<
    And<[Qd_Tensor.predicate,
         CPred<"(::llvm::cast<::mlir::ShapedType>($_self).getElementType()" # test # ")">]>,
    summary, "::mlir::RankedTensorType">;
def Qd_IndexTensor : Type<
    And<[Qd_Tensor.predicate,
         Or<[CPred<"::llvm::cast<::mlir::ShapedType>($_self).getElementType().isSignlessInteger(32)">,
             CPred<"::llvm::cast<::mlir::ShapedType>($_self).getElementType().isSignlessInteger(64)">]>]>,
    "static tensor of i32 or i64 indices", "::mlir::RankedTensorType">;
def Qd_I64Tensor : Qd_TensorOf<".isSignlessInteger(64)", "static tensor of i64">;
def Qd_BitsTensor : Qd_TensorOf<".isUnsignedInteger(32)", "static tensor of ui32">;

def Qd_Int : TypedSignlessIntegerAttrBase<I64, "int64_t", "64-bit integer">;

def Qd_Resource : Attr<CPred<"::llvm::isa<::mlir::DenseResourceElementsAttr>($_self)">, "elements in a resource"> {
  let storageType = "::mlir::DenseResourceElementsAttr";
  let returnType = "::mlir::DenseResourceElementsAttr";
  let convertFromStorage = "$_self";
}

def Qd_Scalar : Type<CPred<"::quadrille::qd::elementTypeOf($_self).has_value()">, "element type of a model">;

//===--------------------------------------------------------------------------------------------------------------===//
// Values
//===--------------------------------------------------------------------------------------------------------------===//

def Qd_BitcastOp : Qd_Op<"bitcast", [Pure]> {
  let summary = "the same bits as another element type of the same width";
  let description = [{
    Enters and leaves signless arithmetic inside the body of a structured operation:
    `%s = qd.bitcast %u : ui8 -> i8`, `%w = arith.extui %s : i8 to i32`.
  }];
  let arguments = (ins Qd_Scalar:$input);
  let results = (outs Qd_Scalar:$result);
  let assemblyFormat = "$input attr-dict `:` type($input) `->` type($result)";
  let hasVerifier = 1;
  let hasFolder = 1;
}

def Qd_WeightOp : Qd_Op<"weight", [Pure]> {
  let summary = "a weight or other large constant, usually in a mapped file";
  let description = [{
    The elements are a resource over memory that nobody copies, or absent. `file`, `offset` and `size` (bytes) say where
    on disk they lie, so that a program can refer to them; the file is absent when they lie in none.

    `%w = qd.weight "conv1.weight" from "model.onnx" at 4096, 9408 bytes data dense_resource<w> : tensor<...>
          : tensor<64x3x7x7xf32>`
  }];
  let arguments = (ins
    StrAttr:$name,
    OptionalAttr<Qd_Resource>:$data,
    OptionalAttr<StrAttr>:$file,
    OptionalAttr<Qd_Int>:$offset,
    OptionalAttr<Qd_Int>:$size);
  let results = (outs Qd_Tensor:$result);
  let assemblyFormat = [{
    $name (`from` $file^ `at` $offset `,` $size `bytes`)? (`data` $data^)? attr-dict `:` type($result)
  }];
  let hasVerifier = 1;
}

def Qd_ReshapeOp : Qd_Op<"reshape", [Pure]> {
  let summary = "the same elements in row-major order under another shape";
  let arguments = (ins Qd_Tensor:$input);
  let results = (outs Qd_Tensor:$result);
  let assemblyFormat = "$input attr-dict `:` type($input) `->` type($result)";
  let hasVerifier = 1;
  let hasFolder = 1;
  let hasCanonicalizer = 1;
}

//===--------------------------------------------------------------------------------------------------------------===//
// Indexed access. Indices count from the end where negative; an index outside [-extent, extent) is an error when the
// operation is evaluated.
//===--------------------------------------------------------------------------------------------------------------===//

def Qd_GatherOp : Qd_Op<"gather", [Pure]> {
  let summary = "whole slices picked along one axis";
  let description = [{
    `result[i..., j..., k...] = data[i..., indices[j...], k...]`, where `i` are the dimensions before `axis`.
  }];
  let arguments = (ins Qd_Tensor:$data, Qd_IndexTensor:$indices, Qd_Int:$axis);
  let results = (outs Qd_Tensor:$result);
  let assemblyFormat = [{
    $data `[` $indices `]` `axis` $axis attr-dict `:` type($data) `,` type($indices) `->` type($result)
  }];
  let hasVerifier = 1;
}

def Qd_GatherElementsOp : Qd_Op<"gather_elements", [Pure]> {
  let summary = "one element picked along an axis for every index";
  let description = [{`result[i..., j, k...] = data[i..., indices[i..., j, k...], k...]` with `j` at `axis`.}];
  let arguments = (ins Qd_Tensor:$data, Qd_IndexTensor:$indices, Qd_Int:$axis);
  let results = (outs Qd_Tensor:$result);
  let assemblyFormat = [{
    $data `[` $indices `]` `axis` $axis attr-dict `:` type($data) `,` type($indices) `->` type($result)
  }];
  let hasVerifier = 1;
}

def Qd_GatherNdOp : Qd_Op<"gather_nd", [Pure]> {
  let summary = "slices picked by index vectors";
  let description = [{
    The last dimension of `indices` holds vectors that index `data` from dimension `batch_dims` on:
    `result[b..., j..., k...] = data[b..., indices[b..., j..., :]..., k...]`.
  }];
  let arguments = (ins Qd_Tensor:$data, Qd_IndexTensor:$indices, Qd_Int:$batch_dims);
  let results = (outs Qd_Tensor:$result);
  let assemblyFormat = [{
    $data `[` $indices `]` `batch_dims` $batch_dims attr-dict `:` type($data) `,` type($indices) `->` type($result)
  }];
  let hasVerifier = 1;
}

def Qd_ScatterElementsOp : Qd_Op<"scatter_elements", [Pure]> {
  let summary = "data with single elements replaced or combined";
  let description = [{
    A copy of `data` in which, for every index, `result[i..., indices[i..., j, k...], k...]` (`j` at `axis`) is combined
    with `updates[i..., j, k...]`. Updates of one element apply in row-major order.
  }];
  let arguments = (ins Qd_Tensor:$data, Qd_IndexTensor:$indices, Qd_Tensor:$updates, Qd_Int:$axis,
                       Qd_ReductionAttr:$reduction);
  let results = (outs Qd_Tensor:$result);
  let assemblyFormat = [{
    $updates `into` $data `[` $indices `]` `axis` $axis $reduction attr-dict `:` type($updates) `,` type($data) `,`
    type($indices) `->` type($result)
  }];
  let hasVerifier = 1;
}

def Qd_ScatterNdOp : Qd_Op<"scatter_nd", [Pure]> {
  let summary = "data with slices replaced or combined";
  let description = [{
    A copy of `data` in which `result[indices[j..., :]..., k...]` is combined with `updates[j..., k...]`. Updates of one
    element apply in row-major order.
  }];
  let arguments = (ins Qd_Tensor:$data, Qd_IndexTensor:$indices, Qd_Tensor:$updates, Qd_ReductionAttr:$reduction);
  let results = (outs Qd_Tensor:$result);
  let assemblyFormat = [{
    $updates `into` $data `[` $indices `]` $reduction attr-dict `:` type($updates) `,` type($data) `,` type($indices)
    `->` type($result)
  }];
  let hasVerifier = 1;
}

//===--------------------------------------------------------------------------------------------------------------===//
// Order
//===--------------------------------------------------------------------------------------------------------------===//

def Qd_TopKOp : Qd_Op<"top_k", [Pure]> {
  let summary = "the largest or smallest elements along an axis and their indices";
  let description = [{
    As many as the results' extent along `axis`. Of equal elements the one with the lower index comes first. Without
    `sorted` the order is not specified (the reference sorts).
  }];
  let arguments = (ins Qd_Tensor:$data, Qd_Int:$axis, BoolAttr:$largest, BoolAttr:$sorted);
  let results = (outs Qd_Tensor:$values, Qd_I64Tensor:$indices);
  let assemblyFormat = [{
    $data `axis` $axis `largest` $largest `sorted` $sorted attr-dict `:` type($data) `->` type($values) `,`
    type($indices)
  }];
  let hasVerifier = 1;
}

def Qd_SortOp : Qd_Op<"sort", [Pure]> {
  let summary = "elements in order along an axis and the indices they come from; equal elements keep their order";
  let arguments = (ins Qd_Tensor:$data, Qd_Int:$axis, BoolAttr:$descending);
  let results = (outs Qd_Tensor:$values, Qd_I64Tensor:$indices);
  let assemblyFormat = [{
    $data `axis` $axis `descending` $descending attr-dict `:` type($data) `->` type($values) `,` type($indices)
  }];
  let hasVerifier = 1;
}

def Qd_ArgReduceOp : Qd_Op<"arg_reduce", [Pure]> {
  let summary = "the index of the smallest or largest element along an axis";
  let description = [{The result lacks the axis. Of equal elements the first is taken, with `select_last` the last.}];
  let arguments = (ins Qd_Tensor:$data, Qd_Int:$axis, Qd_ExtremumAttr:$extremum, BoolAttr:$select_last);
  let results = (outs Qd_I64Tensor:$result);
  let assemblyFormat = [{
    $extremum $data `axis` $axis `select_last` $select_last attr-dict `:` type($data) `->` type($result)
  }];
  let hasVerifier = 1;
}

def Qd_CumulativeOp : Qd_Op<"cumulative", [Pure]> {
  let summary = "running sum or product along an axis";
  let description = [{
    Element `i` of the result combines the elements up to `i`, without `i` itself if `exclusive`; from the other end if
    `reverse`.
  }];
  let arguments = (ins Qd_Tensor:$data, Qd_Int:$axis, Qd_AccumulationAttr:$accumulation, BoolAttr:$exclusive,
                       BoolAttr:$reverse);
  let results = (outs Qd_Tensor:$result);
  let assemblyFormat = [{
    $accumulation $data `axis` $axis `exclusive` $exclusive `reverse` $reverse attr-dict `:` type($data) `->`
    type($result)
  }];
  let hasVerifier = 1;
}

def Qd_RandomBitsOp : Qd_Op<"random_bits", [Pure]> {
  let summary = "counter-based random words";
  let description = [{
    Element `i` in row-major order is word `offset + i` of the Philox4x32-10 stream of the seed (`randomBits` of
    numerics/Convert.h); the seed is an attribute or a scalar operand.
  }];
  let arguments = (ins Optional<Qd_I64Tensor>:$seed, OptionalAttr<Qd_Int>:$seed_value,
                       DefaultValuedAttr<Qd_Int, "0">:$offset);
  let results = (outs Qd_BitsTensor:$result);
  let assemblyFormat = "(`seed` $seed^ `:` type($seed))? attr-dict `->` type($result)";
  let hasVerifier = 1;
}

//===--------------------------------------------------------------------------------------------------------------===//
// Regions
//===--------------------------------------------------------------------------------------------------------------===//

def Qd_CompositeOp : Qd_Op<"composite", [IsolatedFromAbove, RecursiveMemoryEffects, RecursivelySpeculatable,
                                        SingleBlock]> {
  let summary = "operations that together mean something a target may know";
  let description = [{
    `%y = qd.composite "softmax"(%x) with {axis = 1 : i64} : (tensor<4x8xf32>) -> tensor<4x8xf32> { ... }`.
    The arguments of the body are the operands, what it yields are the results. A target that knows the name lowers it
    in its own way; any other inlines the body.
  }];
  let arguments = (ins StrAttr:$name, Variadic<Qd_Tensor>:$inputs, OptionalAttr<DictionaryAttr>:$parameters);
  let results = (outs Variadic<Qd_Tensor>:$outputs);
  let regions = (region SizedRegion<1>:$body);
  let assemblyFormat = [{
    $name `(` $inputs `)` (`with` $parameters^)? attr-dict `:` functional-type($inputs, $outputs) $body
  }];
  let hasRegionVerifier = 1;
}

def Qd_ScanOp : Qd_Op<"scan", [IsolatedFromAbove, RecursiveMemoryEffects, RecursivelySpeculatable, SingleBlock,
                              AttrSizedOperandSegments]> {
  let summary = "a loop of known trip count over slices of sequences, with carried states";
  let description = [{
    Iteration `t` of `trip_count` runs the body on the states, on slice `t` (slice `trip_count - 1 - t` where
    `input_reversed`) of every sequence along its axis in `input_axes`, without that axis, and on the captures. The body
    yields the next states, then one slice for each stacked output; the results are the final states, then the slices
    stacked along `output_axes` (in reverse order where `output_reversed`).
  }];
  let arguments = (ins
    Variadic<Qd_Tensor>:$states, Variadic<Qd_Tensor>:$sequences, Variadic<Qd_Tensor>:$captures,
    Qd_Int:$trip_count,
    DefaultValuedAttr<DenseI64ArrayAttr, "{}">:$input_axes,
    DefaultValuedAttr<DenseBoolArrayAttr, "{}">:$input_reversed,
    DefaultValuedAttr<DenseI64ArrayAttr, "{}">:$output_axes,
    DefaultValuedAttr<DenseBoolArrayAttr, "{}">:$output_reversed);
  let results = (outs Variadic<Qd_Tensor>:$outputs);
  let regions = (region SizedRegion<1>:$body);
  let assemblyFormat = [{
    $trip_count `states` `(` ($states^ `:` type($states))? `)` `sequences` `(` ($sequences^ `:` type($sequences))? `)`
    `captures` `(` ($captures^ `:` type($captures))? `)` attr-dict `->` type($outputs) $body
  }];
  let hasRegionVerifier = 1;
}

def Qd_YieldOp : Qd_Op<"yield", [Pure, Terminator, ReturnLike, ParentOneOf<["CompositeOp", "ScanOp"]>]> {
  let summary = "what the body of a composite or a scan gives";
  let arguments = (ins Variadic<Qd_Tensor>:$values);
  let assemblyFormat = "attr-dict ($values^ `:` type($values))?";
}

#endif
