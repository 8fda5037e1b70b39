// Package h2spec pins the conformance test of HTTP/2 that tests build.
package h2spec
