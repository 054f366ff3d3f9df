#ifndef QUADRILLE_QD_ATTRIBUTES_TD
#define QUADRILLE_QD_ATTRIBUTES_TD

include "graph/dialect/QdDialect.td"
include "mlir/IR/AttrTypeBase.td"
include "mlir/IR/EnumAttr.td"

class Qd_Enum<string name, string summary, list<I32EnumAttrCase> cases> : I32EnumAttr<name, summary, cases> {
  let cppNamespace = "::quadrille::qd";
  let genSpecializedAttr = 0;
}

def Qd_Rounding : Qd_Enum<"Rounding", "how results are rounded", [
  I32EnumAttrCase<"NearestEven", 0, "nearest_even">,
  I32EnumAttrCase<"Stochastic", 1, "stochastic">]>;

def Qd_Reduction : Qd_Enum<"Reduction", "how a scatter combines an update with what is there", [
  I32EnumAttrCase<"None", 0, "none">, I32EnumAttrCase<"Add", 1, "add">, I32EnumAttrCase<"Mul", 2, "mul">,
  I32EnumAttrCase<"Min", 3, "min">, I32EnumAttrCase<"Max", 4, "max">]>;

def Qd_Extremum : Qd_Enum<"Extremum", "which element's index is wanted", [
  I32EnumAttrCase<"Minimum", 0, "minimum">, I32EnumAttrCase<"Maximum", 1, "maximum">]>;

def Qd_Accumulation : Qd_Enum<"Accumulation", "what is accumulated along the axis", [
  I32EnumAttrCase<"Sum", 0, "sum">, I32EnumAttrCase<"Product", 1, "product">]>;

class Qd_EnumAttr<I32EnumAttr info, string mnemonic> : EnumAttr<Qd_Dialect, info, mnemonic>;
def Qd_ReductionAttr : Qd_EnumAttr<Qd_Reduction, "reduction">;
def Qd_ExtremumAttr : Qd_EnumAttr<Qd_Extremum, "extremum">;
def Qd_AccumulationAttr : Qd_EnumAttr<Qd_Accumulation, "accumulation">;

def Qd_ElementTypeParameter : AttrParameter<"::quadrille::ElementType", "an element type by its name, cb16 included">;

def Qd_NumericAttr : AttrDef<Qd_Dialect, "Numeric"> {
  let mnemonic = "numeric";
  let summary = "the arithmetic of a kernel";
  let description = [{
    The types in which operands are stored, products are formed and sums are accumulated, and how results are rounded:
    `#qd.numeric<storage = f16, multiply = f32, accumulate = f32, rounding = nearest_even>`.
  }];
  let parameters = (ins
    Qd_ElementTypeParameter:$storage,
    Qd_ElementTypeParameter:$multiply,
    Qd_ElementTypeParameter:$accumulate,
    EnumParameter<Qd_Rounding>:$rounding
  );
  let assemblyFormat = "`<` struct(params) `>`";
}

#endif
