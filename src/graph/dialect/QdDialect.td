// The dialect `qd`: what linalg cannot say about a model.
#ifndef QUADRILLE_QD_DIALECT_TD
#define QUADRILLE_QD_DIALECT_TD

include "mlir/IR/OpBase.td"

def Qd_Dialect : Dialect {
  let name = "qd";
  let cppNamespace = "::quadrille::qd";
  let summary = "What linalg cannot say about a model: weights in files, composites, indexed access, scans.";
  let description = [{
    Element types follow ONNX: signed integers are signless (`i8` to `i64`), unsigned ones are `ui8` to `ui64`, bool is
    `i1`, sub-byte integers are `i4`, `ui4`, `i2`, `ui2`; floats are MLIR's. Shapes are static. Every operation is pure.

    Discardable attributes:
    * `qd.numeric` on any operation: the arithmetic (`#qd.numeric`) of the kernel it becomes;
    * `qd.operation` on any operation: what it is ("conv", "matmul"), for people;
    * `qd.name` on arguments and results of functions: the ONNX name of the tensor.
    Locations: `NameLoc("node name", NameLoc("OpType"))` for an ONNX node, fused where several are behind an operation.
  }];
  let useDefaultAttributePrinterParser = 1;
  let hasOperationAttrVerify = 1;
  let hasRegionArgAttrVerify = 1;
  let hasRegionResultAttrVerify = 1;
  let dependentDialects = ["::mlir::tensor::TensorDialect"];
  let extraClassDeclaration = [{
    /// Elements over bytes that `owner` keeps alive (a mapped file): nothing is copied. The layout is that of
    /// quadrille::Tensor; the size must match the type (asserted).
    ::mlir::DenseResourceElementsAttr borrowElements(::mlir::RankedTensorType type, ::llvm::ArrayRef<std::byte> bytes,
                                                     std::shared_ptr<const void> owner);
    /// What keeps the bytes of `elements` alive; null unless they come from borrowElements.
    std::shared_ptr<const void> ownerOf(::mlir::DenseResourceElementsAttr elements) const;

  private:
    ::llvm::StringMap<std::shared_ptr<const void>> owners; // by resource key
    void registerAttributes();

  public:
  }];
}

#endif
