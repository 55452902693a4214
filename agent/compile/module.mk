# SPDX-License-Identifier: Apache-2.0
compile_USES := config model base
compile_PKGS := jansson
