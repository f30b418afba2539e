libruntime_a_SOURCES += \
	runtime/microvm/checkpoint.c \
	runtime/microvm/cpio.c \
	runtime/microvm/driver.c \
	runtime/microvm/errand.c \
	runtime/microvm/exec.c \
	runtime/microvm/initramfs.c runtime/microvm/initramfs.h \
	runtime/microvm/jail.c \
	runtime/microvm/kernel.c \
	runtime/microvm/launch.c runtime/microvm/launch.h \
	runtime/microvm/microvm.h \
	runtime/microvm/modtree.c runtime/microvm/modtree.h \
	runtime/microvm/modules.c \
	runtime/microvm/plan.c \
	runtime/microvm/talk.c
