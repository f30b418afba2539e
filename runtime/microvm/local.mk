libruntime_a_SOURCES += \
	runtime/microvm/cpio.c \
	runtime/microvm/initramfs.c runtime/microvm/initramfs.h \
	runtime/microvm/modules.c
