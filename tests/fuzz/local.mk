# Fuzzers: libFuzzer programs, each of its own instrumented objects.
#
#     ../configure --enable-fuzzers CC=clang && make && tests/fuzz/short tests/fuzz/json_fuzz
#
# tests/fuzz/NAME_fuzz.c, its seeds in tests/fuzz/corpus/NAME/, one a file.
fuzz_cflags = $(AM_CFLAGS) -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=undefined \
	-U_FORTIFY_SOURCE

noinst_PROGRAMS += tests/fuzz/json_fuzz
tests_fuzz_json_fuzz_SOURCES = tests/fuzz/json_fuzz.c $(libbase_a_SOURCES)
tests_fuzz_json_fuzz_CFLAGS = $(fuzz_cflags) $(YAJL_CFLAGS) $(CRYPTO_CFLAGS)
tests_fuzz_json_fuzz_LDADD = $(YAJL_LIBS) $(CRYPTO_LIBS)
