# SPDX-License-Identifier: Apache-2.0
# Which modules a fuzz target links with; all of them when it does not say.
fuzz_text_USES := base
fuzz_regex_USES := base
fuzz_dns_USES := helper
fuzz_sniff_USES := helper
fuzz_link_USES := link
fuzz_yaml_USES := config
fuzz_yaml_store_USES := source
fuzz_h2_USES := helper
fuzz_certificate_USES := helper
fuzz_csr_USES := ca
fuzz_http1_USES := helper
fuzz_headers_USES := helper
fuzz_path_USES := model
fuzz_http2_USES := helper
fuzz_jwt_USES := helper
fuzz_format_USES := helper
