# Fuzzers: libFuzzer programs, each of its own instrumented objects.
#
#     ../configure --enable-fuzzers CC=clang && make fuzzers && tests/fuzz/short tests/fuzz/json_fuzz
#
# tests/fuzz/NAME_fuzz.c, its seeds in tests/fuzz/corpus/NAME/, one a file.
fuzzers = tests/fuzz/json_fuzz tests/fuzz/manifest_fuzz tests/fuzz/unpack_fuzz tests/fuzz/vmm_fuzz tests/fuzz/vmm_boot_fuzz \
	tests/fuzz/agent_fuzz tests/fuzz/checkpoint_fuzz tests/fuzz/stream_fuzz tests/fuzz/backup_fuzz tests/fuzz/migrate_fuzz
noinst_PROGRAMS += $(fuzzers)
.PHONY: fuzzers
fuzzers: $(fuzzers)
runtime/container/tests_fuzz_checkpoint_fuzz-criu.$(OBJEXT): runtime/container/criu.pb-c.h

fuzz_cflags = $(AM_CFLAGS) -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=undefined \
	-U_FORTIFY_SOURCE

tests_fuzz_json_fuzz_SOURCES = tests/fuzz/json_fuzz.c $(libbase_a_SOURCES)
tests_fuzz_json_fuzz_CFLAGS = $(fuzz_cflags) $(YAJL_CFLAGS) $(CRYPTO_CFLAGS)
tests_fuzz_json_fuzz_LDADD = $(YAJL_LIBS) $(CRYPTO_LIBS)

tests_fuzz_manifest_fuzz_SOURCES = tests/fuzz/manifest_fuzz.c images/config.c images/manifest.c \
	images/ref.c images/store.c images/gc.c images/blob.c images/info.c images/layer.c \
	$(libbase_a_SOURCES)
tests_fuzz_manifest_fuzz_CFLAGS = $(fuzz_cflags) $(YAJL_CFLAGS) $(CRYPTO_CFLAGS)
tests_fuzz_manifest_fuzz_LDADD = $(ARCHIVE_LIBS) $(YAJL_LIBS) $(CRYPTO_LIBS)

tests_fuzz_unpack_fuzz_SOURCES = tests/fuzz/unpack_fuzz.c images/place.c images/place_path.c \
	images/unpack_decode.c images/unpack_gzip.c images/unpack_tar.c $(libbase_a_SOURCES)
tests_fuzz_unpack_fuzz_CFLAGS = $(fuzz_cflags) $(YAJL_CFLAGS) $(CRYPTO_CFLAGS)
tests_fuzz_unpack_fuzz_LDADD = $(ARCHIVE_LIBS) $(YAJL_LIBS) $(CRYPTO_LIBS)

tests_fuzz_vmm_fuzz_SOURCES = tests/fuzz/vmm_fuzz.c tests/unit/vmm_driver.h $(libvmm_a_SOURCES) \
	$(libbase_a_SOURCES)
tests_fuzz_vmm_fuzz_CFLAGS = $(fuzz_cflags) -pthread $(YAJL_CFLAGS) $(CRYPTO_CFLAGS)
tests_fuzz_vmm_fuzz_LDADD = $(YAJL_LIBS) $(CRYPTO_LIBS)
tests_fuzz_vmm_boot_fuzz_SOURCES = tests/fuzz/vmm_boot_fuzz.c vmm/loader.c vmm/memory.c \
	$(libbase_a_SOURCES)
tests_fuzz_vmm_boot_fuzz_CFLAGS = $(fuzz_cflags) $(YAJL_CFLAGS) $(CRYPTO_CFLAGS)
tests_fuzz_vmm_boot_fuzz_LDADD = $(YAJL_LIBS) $(CRYPTO_LIBS)

tests_fuzz_agent_fuzz_SOURCES = tests/fuzz/agent_fuzz.c runtime/guest/client.c runtime/guest/wire.c \
	runtime/procs.c runtime/guestcfg.c runtime/guestconf.c runtime/guestconf_net.c netns/text.c $(libbase_a_SOURCES)
tests_fuzz_agent_fuzz_CFLAGS = $(fuzz_cflags) $(YAJL_CFLAGS) $(CRYPTO_CFLAGS)
tests_fuzz_agent_fuzz_LDADD = $(YAJL_LIBS) $(CRYPTO_LIBS)

tests_fuzz_checkpoint_fuzz_SOURCES = tests/fuzz/checkpoint_fuzz.c runtime/container/criu.c \
	runtime/migrate/manifest.c $(libbase_a_SOURCES)
nodist_tests_fuzz_checkpoint_fuzz_SOURCES = runtime/container/criu.pb-c.c
tests_fuzz_checkpoint_fuzz_CFLAGS = $(fuzz_cflags) $(YAJL_CFLAGS) $(CRYPTO_CFLAGS)
tests_fuzz_checkpoint_fuzz_LDADD = $(PROTOBUF_C_LIBS) $(YAJL_LIBS) $(CRYPTO_LIBS)

tests_fuzz_stream_fuzz_SOURCES = tests/fuzz/stream_fuzz.c runtime/migrate/stream.c \
	runtime/migrate/stream_file.c $(libbase_a_SOURCES)
tests_fuzz_stream_fuzz_CFLAGS = $(fuzz_cflags) $(YAJL_CFLAGS) $(CRYPTO_CFLAGS)
tests_fuzz_stream_fuzz_LDADD = $(ZSTD_LIBS) $(YAJL_LIBS) $(CRYPTO_LIBS)

tests_fuzz_backup_fuzz_SOURCES = tests/fuzz/backup_fuzz.c runtime/migrate/backup_read.c \
	runtime/migrate/cron.c runtime/migrate/stream.c runtime/spec.c runtime/spec_check.c \
	runtime/spec_json.c runtime/spec_parse.c images/disk.c images/disk_btrfs.c images/disk_copy.c \
	images/disk_dir.c images/disk_loop.c images/disk_quota.c images/ext4.c images/loopdev.c \
	images/tree_copy.c netns/text.c $(libbase_a_SOURCES)
tests_fuzz_backup_fuzz_CFLAGS = $(fuzz_cflags) $(YAJL_CFLAGS) $(CRYPTO_CFLAGS)
tests_fuzz_backup_fuzz_LDADD = $(ZSTD_LIBS) $(YAJL_LIBS) $(CRYPTO_LIBS)

tests_fuzz_migrate_fuzz_SOURCES = tests/fuzz/migrate_fuzz.c runtime/migrate/apply.c runtime/migrate/offer.c \
	runtime/migrate/scan.c runtime/migrate/scan_index.c \
	runtime/migrate/wire.c runtime/migrate/stream.c runtime/migrate/stream_file.c runtime/spec.c \
	runtime/migrate/cron.c \
	runtime/spec_check.c runtime/spec_json.c runtime/spec_lists.c runtime/spec_options.c runtime/spec_parse.c \
	netns/text.c $(libbase_a_SOURCES)
tests_fuzz_migrate_fuzz_CFLAGS = $(fuzz_cflags) $(YAJL_CFLAGS) $(CRYPTO_CFLAGS)
tests_fuzz_migrate_fuzz_LDADD = $(ZSTD_LIBS) $(YAJL_LIBS) $(CRYPTO_LIBS)
