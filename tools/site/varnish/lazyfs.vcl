# varnish as a reverse cache in front of an origin (a site's mirror); nodes name it as an origin.
#   varnishd -a :80 -f /etc/varnish/lazyfs.vcl -s file,/var/cache/varnish/lazyfs,200G -p default_grace=0
vcl 4.1;

backend origin {
    .host = "origin.example.org";
    .port = "80";
    .connect_timeout = 3s;
    .first_byte_timeout = 10s;
    .between_bytes_timeout = 5s;
}

sub vcl_recv {
    if (req.method != "GET" && req.method != "HEAD") {
        return (synth(405));
    }
    if (req.url !~ "^/(data|metadata)/") {
        return (synth(404));
    }
    unset req.http.Cookie;
    unset req.http.Accept-Encoding;
    # what an origin gives for a password or a token is for those who have it, whatever it says of caching
    if (req.http.Authorization || req.url ~ "\?") {
        return (pass);
    }
    # lazyfs asks past caches for an object that it found to be wrong: fetch it anew, and keep the answer
    if (req.http.Cache-Control ~ "no-cache") {
        set req.hash_always_miss = true;
    }
    return (hash);
}

sub vcl_hash {
    hash_data(req.url);
    return (lookup);
}

sub vcl_backend_response {
    set beresp.grace = 0s;
    if (bereq.url ~ "^/data/" && beresp.status == 200) {
        set beresp.ttl = 365d;
    } elsif (beresp.status == 404) {
        # 404 is the usual answer to the probe for the next root
        set beresp.ttl = 10s;
    } elsif (beresp.status >= 500) {
        set beresp.uncacheable = true;
        set beresp.ttl = 0s;
    }
    unset beresp.http.Set-Cookie;
}

sub vcl_deliver {
    if (obj.hits > 0) {
        set resp.http.X-Cache = "HIT";
    } else {
        set resp.http.X-Cache = "MISS";
    }
}
