# SPDX-License-Identifier: Apache-2.0
source_USES := config model base
source_PKGS := jansson libcares
