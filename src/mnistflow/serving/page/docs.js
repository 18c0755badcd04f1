// The API as a page, by Swagger UI, which asks the server under the address that the page came from.

const dark = matchMedia("(prefers-color-scheme: dark)");
const follow = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
dark.addEventListener("change", follow);
follow();

const spec = await (await fetch("openapi.json")).json();
spec.servers = [{ url: new URL(".", location.href).href.replace(/\/$/, "") }];
SwaggerUIBundle({
  spec,
  dom_id: "#api",
  deepLinking: true,
  validatorUrl: null, // nothing from elsewhere
  onComplete: () => { document.body.dataset.state = "shown"; },
});
