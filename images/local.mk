noinst_LIBRARIES += libimages.a
libimages_a_SOURCES = images/images.h
libimages_a_SOURCES += \
	images/disk.c images/disk.h \
	images/disk_btrfs.c \
	images/disk_copy.c \
	images/disk_dir.c \
	images/disk_loop.c \
	images/disk_quota.c \
	images/ext4.c images/ext4.h \
	images/loopdev.c images/loopdev.h \
	images/tree_copy.c images/tree_copy.h
libimages_a_SOURCES += \
	images/blob.c \
	images/config.c \
	images/erofs.c \
	images/layer.c \
	images/layer_make.c \
	images/manifest.c \
	images/place.c images/place.h \
	images/place_path.c \
	images/ref.c \
	images/store.c images/store.h \
	images/unpack.c images/unpack.h \
	images/unpack_decode.c \
	images/unpack_file.c \
	images/unpack_gzip.c \
	images/unpack_tar.c \
	images/worker.c images/worker.h
libimages_a_SOURCES += \
	images/import.c \
	images/import_docker.c \
	images/import_oci.c \
	images/info.c \
	images/names.c
libimages_a_SOURCES += \
	images/export.c images/export.h \
	images/export_layer.c \
	images/gc.c \
	images/publish.c
libimages_a_SOURCES += \
	images/pull.c \
	images/registry.c images/registry.h \
	images/registry_auth.c \
	images/registry_http.c images/registry_http.h
libimages_a_SOURCES += images/bootstrap.c
