# Unit tests link only their layer: tests/unit/<folder>_<file>.c
UNIT_LIBS = $(CMOCKA_LIBS)
unit_programs =
include tests/unit/local.mk
if HAVE_CMOCKA
check_PROGRAMS += $(unit_programs)
TESTS += $(unit_programs)
endif

# The arrows between the rooms, and that their checker sees wrong ones.
TESTS += tests/check-includes tests/check-includes-test
EXTRA_DIST += tests/check-includes tests/check-includes-test

if FUZZERS
include tests/fuzz/local.mk
endif
EXTRA_DIST += tests/fuzz/corpus

# What tests/run builds before it runs them one by one.
.PHONY: unit-tests
unit-tests: $(check_PROGRAMS) $(pkglibexec_PROGRAMS)

# The pages against the program.
TESTS += tests/check-man
EXTRA_DIST += tests/check-man

EXTRA_DIST += packages.list tests/cppcheck.suppress tests/fuzz/short tests/lib.sh tests/run tests/setup.sh \
	tests/bench/dirty.c \
	tests/bench/machines \
	tests/bench/migrate \
	tests/bench/run
# by pattern, so that none is forgotten; a folder's name would bring the objects of a build along
dist-hook:
	$(MKDIR_P) $(distdir)/tests/integration $(distdir)/tests/vm
	cp $(top_srcdir)/tests/integration/*.sh $(top_srcdir)/tests/integration/*.py $(distdir)/tests/integration
	cp $(top_srcdir)/tests/vm/* $(distdir)/tests/vm
include tests/fault/local.mk
include tests/integration/local.mk
