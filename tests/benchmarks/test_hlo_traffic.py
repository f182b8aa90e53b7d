"""Bytes counted from a compiled program."""

import jax
import jax.numpy as jnp
import pytest

from benchmarks.hlo_traffic import array_bytes, bytes_moved


def test_an_operation_reads_its_operands_and_writes_its_result():
  x, y = jnp.ones((64, 32)), jnp.ones((32, 16))
  fused = jax.jit(lambda x: jnp.sin(x) * 2 + 1).lower(x).compile()
  assert bytes_moved(fused.as_text()) == 2 * x.nbytes
  product = jax.jit(jnp.dot).lower(x, y).compile()
  assert bytes_moved(product.as_text()) == x.nbytes + y.nbytes + 64 * 16 * 4


def test_an_operation_may_have_many_results():
  sorted_together = jax.jit(lambda *xs: jax.lax.sort(xs, num_keys=1))
  arrays = [jnp.ones((8, 4))] * 7
  program = sorted_together.lower(*arrays).compile().as_text()
  assert "/*index=5*/" in program
  assert bytes_moved(program) >= 2 * sum(x.nbytes for x in arrays)


@pytest.mark.parametrize(
  "shape, size",
  [("f32[2,3]{1,0}", 24), ("(bf16[4]{0}, pred[])", 9), ("token[]", 0), ("u32[0,5]{1,0}", 0)],
)
def test_bytes_of_a_shape(shape, size):
  assert array_bytes(shape) == size
