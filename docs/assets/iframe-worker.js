// Search runs in a worker, which browsers refuse to pages opened from a folder (file://).
// There, a hidden frame does the worker's job, so that the site needs no server.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super()
      const frame = document.createElement("iframe")
      frame.hidden = true
      document.body.append(frame)
      this.inside = frame.contentWindow
      this.inside.postMessage = (data) => this.dispatchEvent(new MessageEvent("message", { data }))
      // A worker's scripts are beside the worker, not beside the page.
      const source = new URL(url, location.href)
      this.inside.importScripts = (...urls) =>
        urls.reduce((before, each) => before.then(() => this.run(new URL(each, source))), Promise.resolve())
      this.ready = this.run(url)
    }
    run(url) {
      return new Promise((resolve, reject) => {
        const script = this.inside.document.createElement("script")
        script.src = url
        script.onload = resolve
        script.onerror = () => reject(new Error(`can't load ${url}`))
        this.inside.document.body.append(script)
      })
    }
    postMessage(data) {
      this.ready.then(() => this.inside.dispatchEvent(new MessageEvent("message", { data })))
    }
    terminate() {
      this.inside.frameElement.remove()
    }
  }
}
