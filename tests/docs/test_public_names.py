"""Every public name has a docstring, so that the reference has every public name."""

import importlib
import inspect
import pkgutil

import pytest

import dlf_jax

MODULES = sorted(
    module.name for module in pkgutil.walk_packages(dlf_jax.__path__, 'dlf_jax.') if '._' not in module.name
)


def undocumented(module):
    """Dotted names in a module that are public, its own, and without a docstring."""
    found = [] if module.__doc__ else [module.__name__]
    for name, value in vars(module).items():
        own = inspect.isclass(value) or inspect.isroutine(value)
        if name.startswith('_') or not own or value.__module__ != module.__name__:
            continue
        if not inspect.getdoc(value):
            found.append(f'{module.__name__}.{name}')
        if inspect.isclass(value):
            found += [f'{module.__name__}.{name}.{member}' for member in _undocumented_members(value)]
    return found


def _undocumented_members(of):
    """Methods and properties without a docstring, their own or inherited."""
    for name, value in vars(of).items():
        value = getattr(value, '__func__', value)
        # Flax adds methods of its own, dataclasses too; both from other modules.
        routine = inspect.isroutine(value) and value.__module__ == of.__module__
        if name.startswith('_') or not (routine or isinstance(value, property)):
            continue
        if not inspect.getdoc(getattr(of, name)):
            yield name


@pytest.mark.parametrize('name', ['dlf_jax', *MODULES])
def test_every_public_name_has_a_docstring(name):
    assert undocumented(importlib.import_module(name)) == []


def test_a_missing_docstring_is_found():
    module = type(dlf_jax)('made_up', 'Has one.')

    def function():
        pass

    class Class:
        """Has one."""

        def method(self):
            pass

    function.__module__ = Class.__module__ = Class.method.__module__ = 'made_up'
    vars(module).update(function=function, Class=Class)
    assert undocumented(module) == ['made_up.function', 'made_up.Class.method']


def test_every_name_of_the_front_door_is_there():
    assert len(dlf_jax.__all__) > 5
    for name in dlf_jax.__all__:
        assert getattr(dlf_jax, name) is not None
