"""The hot parts by themselves."""


def run(bench):
    bench.skip("micro: not there yet")
