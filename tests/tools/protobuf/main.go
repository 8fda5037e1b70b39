// Prints crates/apiserver/tests/transcripts/protobuf.http: objects of the kinds that are served, encoded by
// Kubernetes' own library, and the JSON that the server must make of them.
//
//	cd tests/tools/protobuf && go run . > ../../../crates/apiserver/tests/transcripts/protobuf.http
package main

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"
)

const namespaced = "/api/v1/namespaces/default/"

// One request.
type sent struct {
	title  string
	method string
	path   string
	status int
	object runtime.Object
	// What the reply holds besides, or nothing.
	reply string
}

func meta(name string) metav1.ObjectMeta {
	yes := true
	return metav1.ObjectMeta{
		Name:        name,
		Labels:      map[string]string{"app": "a"},
		Annotations: map[string]string{"note": "ä"},
		Finalizers:  []string{"example.com/hold"},
		OwnerReferences: []metav1.OwnerReference{{APIVersion: "example.com/v1", Kind: "Thing", Name: "o", UID: "u",
			Controller: &yes, BlockOwnerDeletion: &yes}},
	}
}

func all() []sent {
	yes := true
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	micro := metav1.NewMicroTime(at.Add(6 * time.Microsecond))
	seconds := int64(0)
	uid := "other"
	background := metav1.DeletePropagationBackground
	reference := corev1.ObjectReference{Kind: "ConfigMap", Namespace: "default", Name: "a", UID: "u", APIVersion: "v1",
		ResourceVersion: "7", FieldPath: "data.x"}
	eventMeta := metav1.ObjectMeta{Name: "core", Namespace: "default"}
	newMeta := metav1.ObjectMeta{Name: "new", Namespace: "default"}
	return []sent{
		{"kubectl create namespace", "POST", "/api/v1/namespaces", 201,
			&corev1.Namespace{ObjectMeta: meta("a")}, ""},
		{"kubectl create configmap", "POST", namespaced + "configmaps", 201,
			&corev1.ConfigMap{ObjectMeta: meta("a"), Data: map[string]string{"x": "1", "empty": ""},
				BinaryData: map[string][]byte{"b": {0, 255}}, Immutable: &yes}, ""},
		{"kubectl create secret", "POST", namespaced + "secrets", 201,
			&corev1.Secret{ObjectMeta: meta("a"), Data: map[string][]byte{"x": []byte("1")}, Type: "example.com/type"}, ""},
		{"client-go events of core/v1", "POST", namespaced + "events", 201,
			&corev1.Event{ObjectMeta: eventMeta, InvolvedObject: reference, Reason: "Made", Message: "it was made",
				Source: corev1.EventSource{Component: "c", Host: "h"}, FirstTimestamp: metav1.NewTime(at),
				LastTimestamp: metav1.NewTime(at), Count: 3, Type: "Normal", EventTime: micro,
				Series: &corev1.EventSeries{Count: 2, LastObservedTime: micro}, Action: "Make", Related: &reference,
				ReportingController: "example.com/c", ReportingInstance: "i"}, ""},
		{"client-go events of events.k8s.io/v1", "POST", "/apis/events.k8s.io/v1/namespaces/default/events", 201,
			&eventsv1.Event{ObjectMeta: newMeta, EventTime: micro, Series: &eventsv1.EventSeries{Count: 2, LastObservedTime: micro},
				ReportingController: "example.com/c", ReportingInstance: "i", Action: "Make", Reason: "Made",
				Regarding: reference, Related: &reference, Note: "it was made", Type: "Normal",
				DeprecatedSource: corev1.EventSource{Component: "c", Host: "h"}, DeprecatedFirstTimestamp: metav1.NewTime(at),
				DeprecatedLastTimestamp: metav1.NewTime(at), DeprecatedCount: 3}, ""},
		{"kubectl delete of a typed client", "DELETE", namespaced + "configmaps/a", 409,
			&metav1.DeleteOptions{GracePeriodSeconds: &seconds, Preconditions: metav1.NewUIDPreconditions(uid),
				PropagationPolicy: &background}, `{"message": "<has UID in precondition: other>"}`},
		{"kubectl auth can-i", "POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", 201,
			&authorizationv1.SelfSubjectAccessReview{Spec: authorizationv1.SelfSubjectAccessReviewSpec{
				ResourceAttributes: &authorizationv1.ResourceAttributes{Namespace: "default", Verb: "get", Group: "g", Version: "v1",
					Resource: "services", Subresource: "status", Name: "a"}}}, `{"status": {"allowed": true}}`},
		{"kubectl auth can-i of a path", "POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", 201,
			&authorizationv1.SelfSubjectAccessReview{Spec: authorizationv1.SelfSubjectAccessReviewSpec{
				NonResourceAttributes: &authorizationv1.NonResourceAttributes{Path: "/version", Verb: "get"}}},
			`{"status": {"allowed": true}}`},
		{"kubectl auth can-i --list", "POST", "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews", 201,
			&authorizationv1.SelfSubjectRulesReview{Spec: authorizationv1.SelfSubjectRulesReviewSpec{Namespace: "default"}},
			`{"status": {"resourceRules": "<any>"}}`},
		{"kubectl auth whoami", "POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", 201,
			&authenticationv1.SelfSubjectReview{}, `{"status": {"userInfo": {"username": "<any>"}}}`},
	}
}

// The JSON of an object without what the server takes away, as a wanted reply.
func wanted(object runtime.Object) string {
	text, err := json.Marshal(object)
	check(err)
	var value map[string]any
	check(json.Unmarshal(text, &value))
	delete(value, "status")
	if metadata, ok := value["metadata"].(map[string]any); ok {
		delete(metadata, "creationTimestamp")
	}
	if spec, ok := value["spec"].(map[string]any); ok && len(spec) == 0 {
		delete(value, "spec")
	}
	var written bytes.Buffer
	encoder := json.NewEncoder(&written)
	encoder.SetEscapeHTML(false)
	check(encoder.Encode(value))
	return written.String()
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

func main() {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, eventsv1.AddToScheme,
		authorizationv1.AddToScheme, authenticationv1.AddToScheme} {
		check(add(scheme))
	}
	serializer := protobuf.NewSerializer(scheme, scheme)
	fmt.Println("# Bodies in protobuf, as kubectl 1.32 and client-go 0.32 send them for kinds of Kubernetes itself.")
	fmt.Println("# Written by tests/tools/protobuf; do not edit.")
	fmt.Println("\n### Every kind in every field")
	for _, one := range all() {
		kinds, _, err := scheme.ObjectKinds(one.object)
		check(err)
		one.object.GetObjectKind().SetGroupVersionKind(kinds[0])
		var body bytes.Buffer
		check(serializer.Encode(one.object, &body))
		fmt.Printf("# %s\n> %s %s\n> Content-Type: application/vnd.kubernetes.protobuf\n", one.title, one.method, one.path)
		fmt.Printf("> Accept: application/vnd.kubernetes.protobuf,application/json\nhex: %s\n< %d\n", hex.EncodeToString(body.Bytes()), one.status)
		if one.reply == "" {
			fmt.Print(wanted(one.object))
		} else {
			fmt.Println(one.reply)
		}
	}
	fmt.Print(mistakes)
}

// Bodies that no client sends.
const mistakes = `
### Bodies that are no protobuf, or of another kind
> POST /api/v1/namespaces/default/configmaps
> Content-Type: application/vnd.kubernetes.protobuf
hex: 7b7d
< 400
{"message": "provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]"}
> POST /api/v1/namespaces/default/configmaps
> Content-Type: application/vnd.kubernetes.protobuf
hex: 6b38730a
< 400
# A kind without a table: v1 Thing.
> POST /api/v1/namespaces/default/configmaps
> Content-Type: application/vnd.kubernetes.protobuf
hex: 6b3873000a0b0a02763112055468696e67
< 400
{"message": "<has cannot be sent as protobuf; send JSON>"}
# Custom resources have no protobuf.
> POST /apis/serving.knative.dev/v1/namespaces/default/services
> Content-Type: application/vnd.kubernetes.protobuf
hex: 6b3873000a0b0a02763112055468696e67
< 415
{"reason": "UnsupportedMediaType", "message": "<has application/json, application/yaml>"}
`
