noinst_LIBRARIES += libimages.a
libimages_a_SOURCES = images/images.h
libimages_a_SOURCES += \
	images/disk.c images/disk.h \
	images/disk_btrfs.c \
	images/disk_dir.c \
	images/disk_loop.c \
	images/disk_quota.c \
	images/ext4.c images/ext4.h \
	images/loopdev.c images/loopdev.h
