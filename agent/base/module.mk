# SPDX-License-Identifier: Apache-2.0
base_PKGS := libuv libpcre2-8 libcurl
