# Unit tests link only their layer: tests/unit/<folder>_<file>.c
UNIT_LIBS = $(CMOCKA_LIBS)
unit_programs =
include tests/unit/local.mk
if HAVE_CMOCKA
check_PROGRAMS += $(unit_programs)
TESTS += $(unit_programs)
endif
