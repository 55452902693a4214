# SPDX-License-Identifier: Apache-2.0
link_USES := model base
link_PKGS := libprotobuf-c
link_GEN := proto
