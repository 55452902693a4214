# SPDX-License-Identifier: Apache-2.0
cli_USES := base
cli_PKGS := jansson libcurl
