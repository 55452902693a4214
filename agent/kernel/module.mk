# SPDX-License-Identifier: Apache-2.0
kernel_USES := model base
kernel_PKGS := libbpf libmnl
kernel_GEN := skel
