# One block a folder; each helper library is linked after its users.
base_libs = libbase.a $(YAJL_LIBS) $(CRYPTO_LIBS)

include tests/unit/base.mk
include tests/unit/cgroups.mk
include tests/unit/netns.mk
include tests/unit/images.mk
include tests/unit/vmm.mk
include tests/unit/runtime.mk
include tests/unit/cli.mk
