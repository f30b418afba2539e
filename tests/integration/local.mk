# What the tenants of isolation.sh run: static, as nothing of the host is inside.
attack_programs = tests/integration/attack_calls tests/integration/attack_swap tests/integration/attack_watch
check_PROGRAMS += $(attack_programs)
attack_flags = -std=gnu11 $(WARN_CFLAGS)
tests_integration_attack_calls_SOURCES = tests/integration/attack_calls.c
tests_integration_attack_calls_CFLAGS = $(attack_flags)
tests_integration_attack_calls_LDFLAGS = -static
tests_integration_attack_swap_SOURCES = tests/integration/attack_swap.c
tests_integration_attack_swap_CFLAGS = $(attack_flags)
tests_integration_attack_swap_LDFLAGS = -static
tests_integration_attack_watch_SOURCES = tests/integration/attack_watch.c
tests_integration_attack_watch_CFLAGS = $(attack_flags)
tests_integration_attack_watch_LDFLAGS = -static
