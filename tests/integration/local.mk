# What the tenants of isolation.sh run: static, as nothing of the host is inside.
attack_programs = tests/integration/attack_calls tests/integration/attack_swap tests/integration/attack_watch \
	tests/integration/attack_interp
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
# In the place of a dynamic linker: with nothing of a C library, as vps-init.
tests_integration_attack_interp_SOURCES = tests/integration/attack_interp.c
tests_integration_attack_interp_CFLAGS = $(vps_init_CFLAGS)
tests_integration_attack_interp_LDFLAGS = $(vps_init_LDFLAGS)

# The first process of the guests of vmm.sh.
check_PROGRAMS += tests/integration/vmm_init
tests_integration_vmm_init_SOURCES = tests/integration/vmm_init.c
tests_integration_vmm_init_CFLAGS = $(attack_flags)
tests_integration_vmm_init_LDFLAGS = -static

# The guest's side of a VM, for guest.sh.
check_PROGRAMS += tests/integration/guest_tool
tests_integration_guest_tool_SOURCES = tests/integration/guest_tool.c
tests_integration_guest_tool_LDADD = libruntime.a libimages.a libnetns.a libcgroups.a libvmmapi.a \
	$(ARCHIVE_LIBS) $(MNL_LIBS) $(NFTNL_LIBS) $(SECCOMP_LIBS) $(PROTOBUF_C_LIBS) $(CAP_LIBS) $(ZSTD_LIBS) $(base_libs)

# In the place of vps-vmm, for jail.sh.
check_PROGRAMS += tests/integration/vmm_fake
tests_integration_vmm_fake_SOURCES = tests/integration/vmm_fake.c
tests_integration_vmm_fake_LDADD = libruntime.a libbase.a
if !SANITIZERS
tests_integration_vmm_fake_LDFLAGS = -static
endif

# What the integration tests run beside the programs that are installed.
.PHONY: integration-tools
integration-tools: $(attack_programs) tests/fault/faultpoint tests/integration/guest_tool \
	tests/integration/vmm_fake tests/integration/vmm_init
