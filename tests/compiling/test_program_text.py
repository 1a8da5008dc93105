"""Kernels, bytes and collectives that are read from a program's text."""

import jax
import jax.numpy as jnp
import pytest

from dlf_jax.compiling import program_text

# Of each kind of instruction the form in which the compilers for GPUs and TPUs write it.
PROGRAM = """
HloModule jit_train_step

%fused_loop (p: f32[8,100]) -> f32[8,100] {
  %p = f32[8,100]{1,0} parameter(0)
  ROOT %slice.1 = f32[1,100]{1,0} dynamic-slice(%p), dynamic_slice_sizes={1,100}
}

%fused_product (a: f32[10,20], b: f32[20,30]) -> f32[10,30] {
  %a = f32[10,20]{1,0} parameter(0)
  %b = f32[20,30]{1,0} parameter(1)
  ROOT %dot.1 = f32[10,30]{1,0} dot(%a, %b)
}

%body (x: (s32[], f32[8,100])) -> (s32[], f32[8,100]) {
  %x = (s32[], f32[8,100]{1,0}) parameter(0)
  %stacked = f32[8,100]{1,0} get-tuple-element(%x), index=1
  %one = f32[1,100]{1,0} fusion(%stacked), kind=kLoop, calls=%fused_loop
  ROOT %next = (s32[], f32[8,100]{1,0}) tuple(%count, %stacked)
}

%beside (p: f32[50]) -> f32[50] {
  %p.1 = f32[50]{0} parameter(0)
  ROOT %negated = f32[50]{0} negate(%p.1), metadata={op_name="jit(train_step)/jvp(DLF)/layer_1/residual/neg"}
}

ENTRY %main (a: f32[10,20], b: f32[20,30]) -> f32[10,30] {
  %a.1 = f32[10,20]{1,0} parameter(0)
  %b.1 = f32[20,30]{1,0} parameter(1)
  %out.1 = f32[10,30]{1,0} fusion(%a.1, %b.1), kind=kOutput, calls=%fused_product, \
metadata={op_name="jit(train_step)/transpose(jvp(DLF))/layer_0/fusion/attention_1/dot_general"}, \
backend_config={"estimated_cycles":"700"}
  %call.1 = (bf16[64,32]{1,0}, s8[1000]{0}) custom-call(%c, %d), custom_call_target="__cublas$lt$matmul"
  %room = f32[100]{0} custom-call(), custom_call_target="AllocateBuffer"
  %near = f32[10,20]{1,0:T(8,128)S(1)} negate(%a.1)
  %copy-start.1 = (f32[10,20]{1,0:T(8,128)S(1)}, f32[10,20]{1,0}, u32[]{:S(2)}) copy-start(%a.1)
  %copy-done.1 = f32[10,20]{1,0:T(8,128)S(1)} copy-done(%copy-start.1)
  %loop = (s32[], f32[8,100]{1,0}) while(%init), body=%body, condition=%c, \
backend_config={"known_trip_count":{"n":"8"}}
  %started = ((f32[50]{0}), f32[50]{0}) async-start(%e), calls=%beside
  %ended = f32[50]{0} async-done(%started)
  %all-reduce.1 = (f32[100]{0}, f32[10,20]{1,0}) all-reduce(%f, %g), replica_groups={{0,1,2,3}}
  %all-gather-start.2 = (s32[10,2]{1,0}, s32[40,2]{1,0}) all-gather-start(%ids), dimensions={0}
  %all-gather-done.2 = s32[40,2]{1,0} all-gather-done(%all-gather-start.2)
  ROOT %reduce-scatter.3 = bf16[5,8]{1,0} reduce-scatter(%rows), dimensions={0}
}
"""


@pytest.fixture(scope='module')
def found():
    return {kernel.name: kernel for kernel in program_text.kernels(PROGRAM)}


def test_a_kernel_moves_its_operands_and_results(found):
    product = found['out.1']
    assert product.moved == 4 * (10 * 20 + 20 * 30 + 10 * 30)
    assert (product.product, product.cycles, product.times) == (True, 700, 1)
    assert found['call.1'].moved == 2 * 64 * 32 + 1000
    assert found['call.1'].product
    assert not found['negated'].product


def test_what_stays_on_a_chip_does_not_count(found):
    assert found['near'].moved == 4 * 200
    assert found['copy-done.1'].moved == 4 * 200
    assert found['copy-done.1'].part == 'copies'


def test_a_loop_runs_its_kernels_as_often_and_reads_a_slice_of_what_is_stacked(found):
    one = found['one']
    assert one.times == 8
    assert one.moved == 4 * (100 + 100)


def test_only_what_runs_is_a_kernel(found):
    assert found.keys() == {
        'out.1', 'call.1', 'near', 'copy-done.1', 'one', 'negated', 'all-reduce.1', 'all-gather-done.2',
        'reduce-scatter.3',
    }  # fmt: skip


def test_parts_are_directions_and_modules(found):
    assert found['out.1'].part == 'backward layer_*/fusion'
    assert found['negated'].part == 'forward layer_*/residual'
    assert program_text.part_of('jit(predict_step)/DLF/head/out/dot_general') == 'head/out'
    assert program_text.part_of('jit(train_step)/optimizer/apply/mul') == 'optimizer/apply'
    assert program_text.part_of(
        'jit(train_step)/jvp(DLF)/layer_3/low_rank/low_rank.to_tokens/jit(relu)/max'
    ) == ('forward layer_*/low_rank')
    assert program_text.part_of('jit(train_step)/jvp()/convert_element_type') == 'forward other'
    assert program_text.part_of('reduce_sum') == program_text.part_of('') == 'other'


def test_bytes_that_a_device_sends(found):
    sent = program_text.sent(found.values(), 4)
    assert sent['all-reduce'] == (1, pytest.approx(2 * 3 / 4 * 4 * (100 + 200)))
    assert sent['all-gather'] == (1, pytest.approx(3 / 4 * 4 * 80))
    assert sent['reduce-scatter'] == (1, pytest.approx(3 * 2 * 40))
    alone = program_text.sent(found.values(), 1)
    assert {size for _, size in alone.values()} == {0}


def test_a_real_program():
    """The bytes of a product with a bias, and of the loop that repeats it."""

    @jax.jit
    def step(x, kernel):
        return jax.lax.fori_loop(0, 5, lambda _, x: jnp.tanh(x @ kernel), x)

    x, kernel = jnp.ones((64, 32)), jnp.ones((32, 32))
    kernels = list(program_text.kernels(step.lower(x, kernel).compile().as_text()))
    products = [kernel for kernel in kernels if kernel.product]
    assert sum(kernel.times for kernel in products) == 5
    assert products[0].moved >= 4 * (64 * 32 + 32 * 32 + 64 * 32)
