// Package pebble pins the ACME authority for tests, and the DNS server that it asks.
package pebble
