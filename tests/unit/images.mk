unit_programs += tests/unit/images_disk_test
tests_unit_images_disk_test_SOURCES = tests/unit/images_disk.c tests/unit/images_disk_util.h \
	tests/unit/base_util.h
tests_unit_images_disk_test_LDADD = libimages.a $(ARCHIVE_LIBS) $(base_libs) $(UNIT_LIBS)
unit_programs += tests/unit/images_disk_fs_test
unit_programs += tests/unit/images_disk_copy_test
tests_unit_images_disk_copy_test_SOURCES = tests/unit/images_disk_copy.c tests/unit/images_disk_util.h
tests_unit_images_disk_copy_test_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_unit_images_disk_copy_test_LDADD = libimages.a $(ARCHIVE_LIBS) $(base_libs) $(UNIT_LIBS)
tests_unit_images_disk_fs_test_SOURCES = tests/unit/images_disk_fs.c \
	tests/unit/images_disk_util.h tests/unit/base_util.h
tests_unit_images_disk_fs_test_LDADD = libimages.a $(ARCHIVE_LIBS) $(base_libs) $(UNIT_LIBS)
noinst_PROGRAMS += tests/integration/pull_tool
tests_integration_pull_tool_SOURCES = tests/integration/pull_tool.c
tests_integration_pull_tool_LDADD = libimages.a $(ARCHIVE_LIBS) $(base_libs)
unit_programs += tests/unit/images_hostile_test
tests_unit_images_hostile_test_SOURCES = tests/unit/images_hostile.c tests/unit/images_tar.h \
	tests/unit/base_util.h
tests_unit_images_hostile_test_LDADD = libimages.a $(ARCHIVE_LIBS) $(base_libs) $(UNIT_LIBS)
unit_programs += tests/unit/images_layers_test
tests_unit_images_layers_test_SOURCES = tests/unit/images_layers.c tests/unit/images_tar.h \
	tests/unit/base_util.h
tests_unit_images_layers_test_LDADD = libimages.a $(ARCHIVE_LIBS) $(base_libs) $(UNIT_LIBS)
unit_programs += tests/unit/images_refs_test
tests_unit_images_refs_test_SOURCES = tests/unit/images_refs.c tests/unit/images_tar.h \
	tests/unit/base_util.h
tests_unit_images_refs_test_LDADD = libimages.a $(ARCHIVE_LIBS) $(base_libs) $(UNIT_LIBS)
unit_programs += tests/unit/images_gc_test
tests_unit_images_gc_test_SOURCES = tests/unit/images_gc.c tests/unit/images_tar.h \
	tests/unit/base_util.h
tests_unit_images_gc_test_LDADD = libimages.a $(ARCHIVE_LIBS) $(base_libs) $(UNIT_LIBS)
unit_programs += tests/unit/images_bombs_test
tests_unit_images_bombs_test_SOURCES = tests/unit/images_bombs.c tests/unit/images_tar.h \
	tests/unit/base_util.h
tests_unit_images_bombs_test_LDADD = libimages.a $(ARCHIVE_LIBS) $(base_libs) $(UNIT_LIBS)
unit_programs += tests/unit/images_stop_test
tests_unit_images_stop_test_SOURCES = tests/unit/images_stop.c tests/unit/images_tar.h \
	tests/unit/base_util.h
tests_unit_images_stop_test_LDADD = libimages.a $(ARCHIVE_LIBS) $(base_libs) $(UNIT_LIBS)
unit_programs += tests/unit/images_archives_test
tests_unit_images_archives_test_SOURCES = tests/unit/images_archives.c tests/unit/images_tar.h \
	tests/unit/base_util.h
tests_unit_images_archives_test_LDADD = libimages.a $(ARCHIVE_LIBS) $(base_libs) $(UNIT_LIBS)
unit_programs += tests/unit/images_erofs_test
tests_unit_images_erofs_test_SOURCES = tests/unit/images_erofs.c tests/unit/images_tar.h \
	tests/unit/base_util.h
tests_unit_images_erofs_test_LDADD = libimages.a $(ARCHIVE_LIBS) $(base_libs) $(UNIT_LIBS)
