/* SPDX-License-Identifier: Apache-2.0 */
/* What a script may know of its request besides the message: metadata(), filterContext(), streamInfo(), connection(). */
#include <stdio.h>

#include <lauxlib.h>

#include "agent/helper/filter/jwt.h"
#include "agent/helper/filter/lua_api.h"
#include "agent/helper/filter/lua_json.h"
#include "agent/helper/worker.h"
#include "agent/model/identity.h"

/* pairs() of the table at the top. */
static int lua_table_pairs(lua_State *L)
{
	lua_getfield(L, LUA_REGISTRYINDEX, "weft.next");
	lua_insert(L, -2);
	lua_pushnil(L);
	return 3;
}

/* --- metadata() of the route, filterContext() */

static int on_metadata(lua_State *L)
{
	return lua_sub_object(L, "weft.handle", "weft.metadata");
}

static int on_metadata_get(lua_State *L)
{
	const struct lua_call *c = lua_object_check(L, "weft.metadata");
	lua_json_member_push(L, c->choice.metadata, luaL_checkstring(L, 2));
	return 1;
}

static int json_or_empty(lua_State *L, const struct json_t *value)
{
	if (value)
		lua_json_push(L, value);
	else
		lua_newtable(L);
	return 1;
}

static int on_metadata_pairs(lua_State *L)
{
	json_or_empty(L, lua_object_check(L, "weft.metadata")->choice.metadata);
	return lua_table_pairs(L);
}

static int on_context(lua_State *L)
{
	return json_or_empty(L, lua_object_check(L, "weft.handle")->choice.context);
}

/* --- streamInfo() */

static struct lua_call *info_check(lua_State *L)
{
	return lua_object_check(L, "weft.streamInfo");
}

static int on_protocol(lua_State *L)
{
	enum http_version v = info_check(L)->x->head->version;
	lua_pushstring(L, v == HTTP_2 ? "HTTP/2" : v == HTTP_1_0 ? "HTTP/1.0" : "HTTP/1.1");
	return 1;
}

static int address_push(lua_State *L, const struct addr_port *a)
{
	char text[ADDR_PORT_TEXT_MAX];
	lua_pushstring(L, addr_port_text(a, text));
	return 1;
}

static int on_remote(lua_State *L)
{
	return address_push(L, &info_check(L)->x->source);
}

/* Whom proxies in front name, as far as they are trusted; its port is not known then. */
static int on_client(lua_State *L)
{
	const struct exchange *x = info_check(L)->x;
	struct addr_port client = { .addr = x->remote };
	if (addr_eq(&x->remote, &x->source.addr))
		client.port = x->source.port;
	return address_push(L, &client);
}

static int on_local(lua_State *L)
{
	return address_push(L, &info_check(L)->x->destination);
}

static int on_server_name(lua_State *L)
{
	info_check(L);
	lua_pushliteral(L, "");
	return 1;
}

static int on_route_name(lua_State *L)
{
	const struct http_route *route = info_check(L)->x->route;
	lua_pushstring(L, route && route->name ? route->name : "");
	return 1;
}

static int on_virtual_cluster(lua_State *L)
{
	info_check(L);
	lua_pushliteral(L, "");
	return 1;
}

static int on_dynamic_metadata(lua_State *L)
{
	return lua_sub_object(L, "weft.streamInfo", "weft.dynamicMetadata");
}

/* What jwt_authn leaves there in Istio's sidecars: the token's claims, under "payload" (under the issuer in older ones). The
 * table that they go to is at the top. */
static void claims_put(lua_State *L, const struct json_t *claims)
{
	lua_createtable(L, 0, 2);
	lua_json_push(L, claims);
	lua_json_member_push(L, claims, "iss");
	if (lua_isstring(L, -1)) {
		lua_pushvalue(L, -2);
		lua_rawset(L, -4);
	} else {
		lua_pop(L, 1);
	}
	lua_setfield(L, -2, "payload");
	lua_setfield(L, -2, "envoy.filters.http.jwt_authn");
}

/* Pushes the table; it lives as long as the request. */
static void metadata_push(lua_State *L, struct lua_call *c)
{
	if (c->metadata == LUA_NOREF) {
		lua_newtable(L);
		c->metadata = luaL_ref(L, LUA_REGISTRYINDEX);
	}
	lua_rawgeti(L, LUA_REGISTRYINDEX, c->metadata);
	if (c->claims_known || !c->x->claims)
		return;
	c->claims_known = true;
	claims_put(L, jwt_claims_json(c->x->claims));
}

static int on_dynamic_get(lua_State *L)
{
	struct lua_call *c = lua_object_check(L, "weft.dynamicMetadata");
	luaL_checkstring(L, 2);
	metadata_push(L, c);
	lua_pushvalue(L, 2);
	lua_rawget(L, -2);
	return 1;
}

static int on_dynamic_set(lua_State *L)
{
	struct lua_call *c = lua_object_check(L, "weft.dynamicMetadata");
	luaL_checkstring(L, 2);
	luaL_checkstring(L, 3);
	lua_settop(L, 4);
	metadata_push(L, c);
	lua_pushvalue(L, 2);
	lua_rawget(L, 5);
	if (!lua_istable(L, -1)) {
		lua_pop(L, 1);
		lua_newtable(L);
		lua_pushvalue(L, 2);
		lua_pushvalue(L, -2);
		lua_rawset(L, 5);
	}
	lua_pushvalue(L, 3);
	lua_pushvalue(L, 4);
	lua_rawset(L, -3);
	return 0;
}

static int on_dynamic_pairs(lua_State *L)
{
	metadata_push(L, lua_object_check(L, "weft.dynamicMetadata"));
	return lua_table_pairs(L);
}

/* --- connection() */

static int ssl_push(lua_State *L, const struct lua_call *c)
{
	if (c->x->peer)
		lua_object_push(L, "weft.ssl", c->serial, 0);
	else
		lua_pushnil(L);
	return 1;
}

static int on_ssl(lua_State *L)
{
	const struct lua_call *c = lua_object_check(L, "weft.connection");
	return ssl_push(L, c);
}

static int on_downstream_ssl(lua_State *L)
{
	return ssl_push(L, info_check(L));
}

static int on_presented(lua_State *L)
{
	lua_object_check(L, "weft.ssl");
	lua_pushboolean(L, 1);
	return 1;
}

static int uri_push(lua_State *L, const struct identity *who)
{
	lua_newtable(L);
	if (who) {
		lua_pushstring(L, who->uri);
		lua_rawseti(L, -2, 1);
	}
	return 1;
}

static int on_peer_uri(lua_State *L)
{
	return uri_push(L, lua_object_check(L, "weft.ssl")->x->peer);
}

static int on_local_uri(lua_State *L)
{
	const struct worker_pod *pod = lua_object_check(L, "weft.ssl")->x->pod;
	return uri_push(L, pod ? pod->identity : NULL);
}

/* --- all of it */

static int on_stream_info(lua_State *L)
{
	return lua_sub_object(L, "weft.handle", "weft.streamInfo");
}

static int on_connection(lua_State *L)
{
	return lua_sub_object(L, "weft.handle", "weft.connection");
}

const struct luaL_Reg lua_info_methods[] = { { "metadata", on_metadata },
					     { "filterContext", on_context },
					     { "streamInfo", on_stream_info },
					     { "connection", on_connection },
					     { NULL, NULL } };

void lua_info_register(lua_State *L)
{
	static const struct luaL_Reg metadata[] = { { "get", on_metadata_get }, { NULL, NULL } };
	static const struct luaL_Reg info[] = { { "protocol", on_protocol },
						{ "requestedServerName", on_server_name },
						{ "downstreamDirectRemoteAddress", on_remote },
						{ "downstreamRemoteAddress", on_client },
						{ "downstreamDirectLocalAddress", on_local },
						{ "downstreamLocalAddress", on_local },
						{ "downstreamSslConnection", on_downstream_ssl },
						{ "routeName", on_route_name },
						{ "virtualClusterName", on_virtual_cluster },
						{ "dynamicMetadata", on_dynamic_metadata },
						{ NULL, NULL } };
	static const struct luaL_Reg dynamic[] = { { "get", on_dynamic_get },
						   { "set", on_dynamic_set },
						   { NULL, NULL } };
	static const struct luaL_Reg connection[] = { { "ssl", on_ssl }, { NULL, NULL } };
	static const struct luaL_Reg ssl[] = { { "peerCertificatePresented", on_presented },
					       { "peerCertificateValidated", on_presented },
					       { "uriSanPeerCertificate", on_peer_uri },
					       { "uriSanLocalCertificate", on_local_uri },
					       { NULL, NULL } };
	lua_class_register(L, "weft.metadata", metadata, on_metadata_pairs);
	lua_class_register(L, "weft.streamInfo", info, NULL);
	lua_class_register(L, "weft.dynamicMetadata", dynamic, on_dynamic_pairs);
	lua_class_register(L, "weft.connection", connection, NULL);
	lua_class_register(L, "weft.ssl", ssl, NULL);
}
