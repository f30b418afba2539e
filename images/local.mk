noinst_LIBRARIES += libimages.a
libimages_a_SOURCES = images/images.h
