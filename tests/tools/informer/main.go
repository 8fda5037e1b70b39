// Watches Knative Services and ConfigMaps as any controller written in Go does: client-go's shared informers, with a
// cache, a work queue and a resync. Prints one line an event, and "synced" when the first state is known.
//
//	informer -kubeconfig FILE -namespace NAME
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/dynamic/dynamicinformer"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/metadata/metadatainformer"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
)

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "informer:", err)
		os.Exit(1)
	}
}

// An object as a line shows it.
func name(object any) string {
	if gone, ok := object.(cache.DeletedFinalStateUnknown); ok {
		return gone.Key
	}
	switch object := object.(type) {
	case *corev1.ConfigMap:
		return fmt.Sprintf("%s x=%s", object.Name, object.Data["x"])
	case *unstructured.Unstructured:
		generation, _, _ := unstructured.NestedInt64(object.Object, "metadata", "generation")
		return fmt.Sprintf("%s generation=%d", object.GetName(), generation)
	case metav1.Object:
		return object.GetName()
	}
	return "?"
}

// Prints every event of an informer under a word of its own.
func follow(word string, informer cache.SharedIndexInformer, lines chan<- string) {
	_, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(object any) { lines <- fmt.Sprintf("%s added %s", word, name(object)) },
		UpdateFunc: func(_, object any) { lines <- fmt.Sprintf("%s updated %s", word, name(object)) },
		DeleteFunc: func(object any) { lines <- fmt.Sprintf("%s deleted %s", word, name(object)) },
	})
	check(err)
}

func main() {
	kubeconfig := flag.String("kubeconfig", "", "file that says how to reach the server")
	namespace := flag.String("namespace", "default", "namespace to watch")
	flag.Parse()
	config, err := clientcmd.BuildConfigFromFlags("", *kubeconfig)
	check(err)
	typed, err := kubernetes.NewForConfig(config)
	check(err)
	loose, err := dynamic.NewForConfig(config)
	check(err)
	partial, err := metadata.NewForConfig(config)
	check(err)
	context, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()

	services := schema.GroupVersionResource{Group: "serving.knative.dev", Version: "v1", Resource: "services"}
	maps := informers.NewSharedInformerFactoryWithOptions(typed, 0, informers.WithNamespace(*namespace))
	knative := dynamicinformer.NewFilteredDynamicSharedInformerFactory(loose, 0, *namespace, nil)
	names := metadatainformer.NewFilteredSharedInformerFactory(partial, 0, *namespace, nil)
	lines := make(chan string, 100)
	follow("map", maps.Core().V1().ConfigMaps().Informer(), lines)
	follow("service", knative.ForResource(services).Informer(), lines)
	follow("secret-name", names.ForResource(corev1.SchemeGroupVersion.WithResource("secrets")).Informer(), lines)
	maps.Start(context.Done())
	knative.Start(context.Done())
	names.Start(context.Done())
	go func() {
		maps.WaitForCacheSync(context.Done())
		knative.WaitForCacheSync(context.Done())
		names.WaitForCacheSync(context.Done())
		lines <- "synced"
	}()
	for {
		select {
		case line := <-lines:
			fmt.Println(line)
		case <-context.Done():
			return
		}
	}
}
