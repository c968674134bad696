// Command etcdwatch watches a real etcd cluster while its members and the network fail.
package main

func main() {}
