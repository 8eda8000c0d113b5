#!/bin/sh
# Cordons and drains this node before an event that stops it, and uncordons it afterwards.
# imds-identity events --follow --exec runs it for each change; NODE_NAME is the name of the node in Kubernetes.
set -eu
mark=imds-identity/event # an annotation: this script uncordons only nodes that it has cordoned

case $IMDS_EVENT_TYPE in
Freeze) exit 0 ;; # a pause of seconds: the pods stay
Preempt) grace=15 timeout=20 ;; # the notice is thirty seconds
*) grace=-1 timeout=240 ;; # each pod's own grace period
esac

case $IMDS_EVENT_CHANGE in
scheduled | started)
    cordoned=$(kubectl get node "$NODE_NAME" -o 'jsonpath={.spec.unschedulable}')
    if [ "$cordoned" != true ]; then
        kubectl annotate node "$NODE_NAME" --overwrite "$mark=$IMDS_EVENT_ID"
    fi
    kubectl cordon "$NODE_NAME"
    kubectl drain "$NODE_NAME" --ignore-daemonsets --delete-emptydir-data --force \
        --grace-period="$grace" --timeout="${timeout}s"
    ;;
gone)
    marked=$(kubectl get node "$NODE_NAME" -o "jsonpath={.metadata.annotations.$mark}")
    if [ "$marked" = "$IMDS_EVENT_ID" ]; then
        kubectl uncordon "$NODE_NAME"
        kubectl annotate node "$NODE_NAME" "$mark-"
    fi
    ;;
esac
