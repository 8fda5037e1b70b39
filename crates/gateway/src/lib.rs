//! The request path: listen, route by host, split traffic, limit, report.
