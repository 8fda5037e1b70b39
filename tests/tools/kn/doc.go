// Package kn pins the version of the kn client that tests build: v0.39 belongs to Knative 1.12.
package kn
