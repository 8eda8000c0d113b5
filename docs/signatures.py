"""A griffe extension that hides internal parameters from signatures in the reference."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import griffe

if TYPE_CHECKING:
    from collections.abc import Iterator


class PublicSignatures(griffe.Extension):
    """Removes parameters that are private or only reject arguments, and defaults that are code."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Remove internal parameters of one object; griffe calls this."""
        if isinstance(obj, griffe.Function):
            public = [each for each in obj.parameters if not _is_internal(each)]
            obj.parameters = griffe.Parameters(*public)

    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:
        """Simplify all signatures, after griffe has added the constructors of data classes."""
        settings = pkg["emulator._settings.Settings.__init__"]
        for function in _functions(pkg):
            if any("with_options_of" in str(each.value) for each in function.decorators):
                self_parameter = next(iter(function.parameters))
                first, *others = list(settings.parameters)[1:]
                # griffe treats it as keyword-only
                first.kind = griffe.ParameterKind.positional_or_keyword
                function.parameters = griffe.Parameters(self_parameter, first, *others)
            for parameter in function.parameters:
                _simplify(parameter)


def _is_internal(parameter: griffe.Parameter) -> bool:
    return parameter.name.startswith("_") or str(parameter.annotation) == "Never"


def _simplify(parameter: griffe.Parameter) -> None:
    if isinstance(parameter.default, griffe.ExprCall):
        parameter.default = "..."
    annotation = parameter.annotation
    if isinstance(annotation, griffe.ExprSubscript) and str(annotation.left) == "Annotated":
        parameter.annotation = annotation.slice.elements[0]  # type: ignore[union-attr]


def _functions(parent: griffe.Object) -> Iterator[griffe.Function]:
    for each in parent.members.values():
        if isinstance(each, griffe.Function):
            yield each
        elif isinstance(each, (griffe.Module, griffe.Class)):
            yield from _functions(each)
