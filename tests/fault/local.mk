check_PROGRAMS += tests/fault/faultpoint
tests_fault_faultpoint_SOURCES = tests/fault/faultpoint.c
tests_fault_faultpoint_CFLAGS = -std=gnu11 $(WARN_CFLAGS)
